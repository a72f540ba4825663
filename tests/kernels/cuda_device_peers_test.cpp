// CUDA units that read what another wrote from that unit's memory: two on one device, or on devices
// that can.
#include <sched.h>

#include "cuda_unit.h"

using namespace tandem;

namespace {

/// A unit computes y and keeps it; another one multiplies y further and publishes.
struct TwoSteps {
  std::unique_ptr<Device> writer = open_unit(0), reader = open_unit(1);
  SmallLinear first{writer.get(), reader.get()};
  TestMatrix next = make_matrix(DType::kF32, 16, kColumns, 5);
  Exchanged<float> z{{writer.get(), reader.get()}, kTokens * 16};

  void write() const {
    const auto placed = writer->place(first.weights.source(), {0, kColumns});
    step(*writer, [&] { first.run(*writer, *placed, {0, kColumns}, false); });
  }
  void multiply(const PlacedMatrix& placed) const {
    reader->linear({.input = {.x = first.y.data(), .tokens = kTokens},
                    .weights = &placed,
                    .columns = {0, 16},
                    .y = z.data(),
                    .y_stride = 16});
  }
  reference::Matrix exact() const { return reference::linear(first.exact(), next.exact, {}); }
};

}  // namespace

TEST_CASE("a unit reads a result that was not published from the memory of who wrote it") {
  const TwoSteps test;
  if (!test.reader->connect(*test.writer)) {
    MESSAGE("these devices cannot read each other's memory: skipped");
    return;
  }
  const auto placed = test.reader->place(test.next.source(), {0, 16});
  for (const uint64_t recording : {0, 7, 7}) {  // at once, recorded, and replayed
    test.first.x.assign(random_floats(kTokens * kK, 20 + recording));
    step(*test.writer, [&] { test.writer->receive(test.first.x.block()); });
    test.write();
    CHECK(test.first.y.copy() == std::vector<float>(kTokens * kColumns, -1));
    if (!test.reader->begin_step(recording)) {
      test.reader->receive_from(*test.writer, test.first.y.block());
      test.multiply(*placed);
    }
    test.reader->launch();
    test.reader->end_step();
    check_near(test.z.copy(), test.exact(), 1e-5);
  }
}

TEST_CASE("what a unit reads from another outlives that unit's share of it") {
  const auto writer = open_unit(0), reader = open_unit(1);
  if (!reader->connect(*writer)) return;
  const auto memory = map_memory(4096);
  memory.get()[5] = std::byte{9};
  auto of_writer = writer->share(memory.get(), 4096);
  memory.get()[5] = std::byte{1};
  const auto of_reader = reader->share(memory.get(), 4096);
  const Block block{.data = memory.get(), .rows = 1, .bytes = 4096, .stride = 4096};
  const auto receive = [&] {
    if (!reader->begin_step(3)) reader->receive_from(*writer, block);
    reader->launch();
    reader->end_step();
  };
  receive();
  of_writer.reset();
  receive();  // replayed
}

TEST_CASE("a unit is connected to no CPU unit, nor a CPU unit to it") {
  const auto cuda = open_unit(), cpu = open_cpu_device({.cores = {sched_getcpu()}, .isa = ""});
  CHECK_FALSE(cuda->connect(*cpu));
  CHECK_FALSE(cpu->connect(*cuda));
}
