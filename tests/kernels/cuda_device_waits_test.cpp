// How a CUDA unit waits for the host and for other units, and its clock.
#include <barrier>
#include <chrono>

#include "cuda_unit_waits.h"

using namespace tandem;

TEST_CASE("a unit waits for the host and the host for the unit, in a step at once and replayed") {
  check_turns_with_the_host();
}

TEST_CASE("a cancelled flag lets a stream go on, and a unit that has to be closed") {
  check_cancelled_flags();
}

TEST_CASE("two units compute halves of one buffer and hand them over") {
  const auto first = open_unit(0), second = open_unit(1);
  const SmallLinear linear({first.get(), second.get()});
  Exchanged<float> z({first.get(), second.get()}, kTokens * 32);
  Exchanged<Flag> done({first.get(), second.get()}, 2);
  const TestMatrix next = make_matrix(DType::kF32, 32, kColumns, 5);
  std::barrier between_steps(2);  // as the executor has it
  // Each computes its columns of y, takes over the other's, and computes its columns of z.
  struct Placed {
    std::shared_ptr<const PlacedMatrix> weights, next;
  };
  // Before anybody waits: the driver may hold up an allocation until what is queued has ended.
  const auto place = [&](Device& device) {
    return Placed{device.place(linear.weights.source(), {0, kColumns}),
                  device.place(next.source(), {0, 32})};
  };
  const Placed of_units[2] = {place(*first), place(*second)};
  const auto half = [&](Device& device, int64_t unit, uint64_t recording) {
    const auto& [placed, placed_next] = of_units[unit];
    const Range mine = unit == 0 ? Range{0, 16} : Range{16, kColumns};
    const Range others = unit == 0 ? Range{16, kColumns} : Range{0, 16};
    for (int i = 0; i < 3; ++i) {
      if (!device.begin_step(recording)) {
        linear.run(device, *placed, mine);
        device.raise(done[1 - unit]);
        device.wait(done[unit]);
        device.receive({.data = linear.y.block().data + others.begin * 4,
                        .rows = kTokens,
                        .bytes = others.size() * 4,
                        .stride = kColumns * 4});
        device.linear({.input = {.x = linear.y.data(), .tokens = kTokens},
                       .weights = placed_next.get(),
                       .columns = {16 * unit, 16 * unit + 16},
                       .y = z.data(),
                       .y_stride = 32});
      }
      device.launch();
      device.end_step();
      between_steps.arrive_and_wait();
    }
    device.forget_recordings();
  };
  for (const uint64_t recording : {0, 1}) {
    z.fill(-1);
    linear.y.fill(-1);
    std::thread other([&] { half(*second, 1, recording); });
    half(*first, 0, recording);
    other.join();
    check_near(z.copy(), reference::linear(linear.exact(), next.exact, {}), 1e-5);
  }
}

TEST_CASE("stamps are in order and on the host's clock") {
  const auto device = open_unit();
  Exchanged<int64_t> stamps({device.get()}, 2);
  const auto now = [] {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  };
  for (const uint64_t recording : {0, 1, 1}) {
    const int64_t before = now();
    if (!device->begin_step(recording)) {
      device->stamp(&stamps[0]);
      device->stamp(&stamps[1]);
    }
    device->launch();
    device->end_step();
    constexpr int64_t kSecond = 1'000'000'000;  // no threshold of time: the clocks differ by years
    CHECK(stamps[0] > before - kSecond);
    CHECK(stamps[0] <= stamps[1]);
    CHECK(stamps[1] < now() + kSecond);
  }
}
