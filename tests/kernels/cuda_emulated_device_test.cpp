// CUDA units of machines that have more, or less, or fail: what only emulated devices can be told
// to do.
#include <optional>

#include "cuda_emulated_machine.h"
#include "cuda_unit_waits.h"

using namespace tandem;

TEST_CASE("CUDA devices are listed with what they offer") {
  const EmulatedMachine machine(2);
  const auto devices = list_cuda_devices();
  REQUIRE(devices.size() == 2);
  CHECK(devices[0].name != "");
  CHECK(devices[1].memory_bytes > 0);
  CHECK(contains(devices[1].capability, "."));
  CHECK(devices[0].stream_memory_ops);
  cuda_emulation::set_stream_memory_ops(false);
  CHECK_FALSE(list_cuda_devices()[0].stream_memory_ops);
  CHECK(has_cuda_matrix_library());
  cuda_emulation::set_blas(false);
  CHECK_FALSE(has_cuda_matrix_library());
  cuda_emulation::set_devices(0);
  CHECK(list_cuda_devices().empty());
}

TEST_CASE("a device that is not there, or whose driver is too old, is refused in one line") {
  const EmulatedMachine machine(1);
  CHECK(error_of([] { open_cuda_device({.index = 1}); }) ==
        "gpu1: no CUDA device 1 on this machine (1 found); remove it from the plan or run on one "
        "that has it");
  cuda_emulation::set_devices(0);
  CHECK(contains(error_of([] { open_cuda_device({.index = 0}); }),
                 "gpu0: no CUDA device 0 on this machine (0 found)"));
  cuda_emulation::set_devices(1);
  cuda_emulation::set_driver_version(12040);
  const std::string message = error_of([] { open_cuda_device({.index = 0}); });
  CHECK(contains(message, "gpu0: the driver supports CUDA 12.4, and this program needs"));
  CHECK(contains(message, "update the driver"));
  CHECK(list_cuda_devices().empty());
}

TEST_CASE("a unit closes without a trace, in whatever order its memory goes") {
  const EmulatedMachine machine(2);
  const auto before = cuda_emulation::live();
  {
    auto first = open_unit(0), second = open_unit(1);
    std::optional<Exchanged<float>> x(std::in_place,
                                      std::initializer_list{first.get(), second.get()}, 100);
    const auto cache = first->allocate(1000);
    const auto matrix = make_matrix(DType::kQ8_0, 32, 64, 1);
    const auto placed = first->place(matrix.source(), {0, 32});
    const auto streamed = second->place(matrix.source(), {0, 32}, Home::kStreamed);
    step(*first, [&] { first->receive(x->block()); });
    second.reset();
    step(*first, [&] { first->receive(x->block()); });  // registered still, by this device's share
    first.reset();
  }
  const auto after = cuda_emulation::live();
  CHECK(after.device_allocations == before.device_allocations);
  CHECK(after.pinned_allocations == before.pinned_allocations);
  CHECK(after.streams == before.streams);
  CHECK(after.events == before.events);
  CHECK(after.graphs == before.graphs);
}

TEST_CASE("where a device shares the host's memory nothing is copied") {
  const EmulatedMachine machine;
  cuda_emulation::set_integrated(true);
  CHECK(list_cuda_devices()[0].unified);
  const auto device = open_unit();
  const SmallLinear linear({device.get()});
  const auto placed =
      device->place(linear.weights.source(), {0, kColumns}, Home::kStreamed);  // resident, in fact
  linear.x.assign(random_floats(kTokens * kK, 20));
  step(*device, [&] { linear.run(*device, *placed, {0, kColumns}, false); });
  check_near(linear.y.copy(), linear.exact(), 1e-5);
}

TEST_CASE("many tokens go by matrix products, or 16 at a time with the bits of few tokens") {
  constexpr int64_t kMany = 37;
  const auto matrix = make_matrix(DType::kQ8_0, kColumns, kK, 1);
  const auto run = [&](Device& device, std::vector<Range> tokens) {
    Exchanged<float> x({&device}, kMany * kK), y({&device}, kMany * kColumns);
    y.fill(1);
    x.assign(random_floats(kMany * kK, 3));
    const auto placed = device.place(matrix.source(), {0, kColumns});
    step(device, [&] {
      device.receive(x.block());
      device.receive(y.block());
      for (const Range& range : tokens)
        device.linear({.input = {.x = x.data() + range.begin * kK, .tokens = range.size()},
                       .weights = placed.get(),
                       .columns = {0, kColumns},
                       .y = y.data() + range.begin * kColumns,
                       .y_stride = kColumns,
                       .add = true});
    });
    return std::pair(
        y.copy(), reference::linear(reference::from_floats(x.data(), kMany, kK), matrix.exact, {}));
  };
  const EmulatedMachine machine;
  const auto with_products = run(*open_unit(), {{0, kMany}});
  check_near(with_products.first, (with_products.second.array() + 1).matrix(), 2e-2);
  cuda_emulation::set_blas(false);
  const auto tiles = run(*open_unit(), {{0, kMany}});
  const auto few = run(*open_unit(), {{0, 10}, {10, 26}, {26, kMany}});
  CHECK(differing(tiles.first, few.first) == 0);
}

TEST_CASE("memory that a device has not got is refused with what to do about it") {
  const EmulatedMachine machine;
  cuda_emulation::set_memory_bytes(1 << 20);
  const auto device = open_unit();
  const auto matrix = make_matrix(DType::kF32, 1024, 512, 1);  // 2 MiB
  device->begin_step();
  const std::string message = error_of([&] { device->place(matrix.source(), {0, 1024}); });
  CHECK(contains(message, "gpu0: the device refused 2097152 bytes of "));
  CHECK(contains(message, " free; use --budget gpu0=... or a smaller context"));
  CHECK_NOTHROW(device->end_step());
  CHECK(contains(error_of([&] { device->allocate(2 << 20); }), "gpu0: the device refused"));
  // The unit goes on with what there is.
  const auto small = device->allocate(1000);
  std::vector<std::byte> bytes(1000, std::byte{1});
  device->read(bytes.data(), small.get(), 1000);
  CHECK(bytes[999] == std::byte{0});
}

TEST_CASE("a device that is lost is an error of the step, once, and the unit can be closed") {
  for (const uint64_t recording : {0, 1}) {
    for (int calls = 0; calls < 6; ++calls) {
      CAPTURE(calls);
      const EmulatedMachine machine;
      auto device = open_unit();
      const SmallLinear linear({device.get()});
      const auto placed = device->place(linear.weights.source(), {0, kColumns});
      const auto run = [&] {
        if (!device->begin_step(recording)) {
          device->receive(linear.x.block());
          linear.run(*device, *placed);
        }
        device->launch();
        device->end_step();
      };
      run();
      if (calls % 2 == 0) {
        cuda_emulation::fail_after(calls / 2);
      } else {
        cuda_emulation::fail_while_running_after(calls / 2);
      }
      std::string message;
      for (int i = 0; i < 4 && message.empty(); ++i) message = error_of(run);
      CHECK(contains(message, "gpu0: CUDA: "));
      CHECK_NOTHROW(device->end_step());
      CHECK_NOTHROW(device.reset());
    }
  }
}

TEST_CASE("where the driver has no waits in a stream, kernels wait") {
  const EmulatedMachine machine;
  cuda_emulation::set_stream_memory_ops(false);
  check_turns_with_the_host();
  check_cancelled_flags();
}
