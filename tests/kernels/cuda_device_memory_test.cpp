// A CUDA unit's memory: its own, and its copy of what it exchanges with others. What its stages
// compute is tested with those of all other units.
#include <stdexcept>

#include "cuda_unit.h"

using namespace tandem;

TEST_CASE("a unit's own memory is zero and keeps what is written") {
  const auto device = open_unit();
  const auto memory = device->allocate(1000);
  std::vector<std::byte> bytes(1000, std::byte{7});
  device->read(bytes.data(), memory.get(), 1000);
  CHECK(std::count(bytes.begin(), bytes.end(), std::byte{0}) == 1000);
  std::fill(bytes.begin(), bytes.end(), std::byte{5});
  device->write(memory.get() + 10, bytes.data(), 20);
  device->read(bytes.data(), memory.get(), 1000);
  CHECK(std::count(bytes.begin(), bytes.end(), std::byte{5}) == 20);
  CHECK(bytes[10] == std::byte{5});
}

TEST_CASE("a unit sees what was written to exchanged memory when it is told to receive it") {
  const auto device = open_unit();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  const auto result = [&](bool receive) {
    step(*device, [&] {
      if (receive) device->receive(linear.x.block());
      linear.run(*device, *placed);
    });
    return linear.y.copy();
  };
  const auto first = result(false);
  linear.x.assign(random_floats(kTokens * kK, 20));
  CHECK(differing(result(false), first) == 0);
  const auto second = result(true);
  CHECK(differing(second, first) == kTokens * kColumns);
  check_near(second, linear.exact(), 1e-5);
}

TEST_CASE("a block of rows is received without what lies between them") {
  const auto device = open_unit();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  step(*device, [&] { linear.run(*device, *placed); });
  const auto first = linear.y.copy();
  linear.x.assign(random_floats(kTokens * kK, 20));
  // Rows 0 and 2.
  step(*device, [&] {
    device->receive(
        {.data = linear.x.block().data, .rows = 2, .bytes = kK * 4, .stride = 2 * kK * 4});
    linear.run(*device, *placed);
  });
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t c = 0; c < kColumns; ++c)
      CHECK((linear.y[t * kColumns + c] == first[static_cast<size_t>(t * kColumns + c)]) ==
            (t == 1));
}

TEST_CASE("a result that is not published stays with the unit") {
  const auto device = open_unit();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  step(*device, [&] { linear.run(*device, *placed, {0, kColumns}, false); });
  CHECK(linear.y.copy() == std::vector<float>(kTokens * kColumns, -1));
  // The unit has it: a second linear reads it and publishes.
  Exchanged<float> z({device.get()}, kTokens * 16);
  const TestMatrix next = make_matrix(DType::kF32, 16, kColumns, 5);
  const auto placed_next = device->place(next.source(), {0, 16});
  step(*device, [&] {
    device->linear({.input = {.x = linear.y.data(), .tokens = kTokens},
                    .weights = placed_next.get(),
                    .columns = {0, 16},
                    .y = z.data(),
                    .y_stride = 16});
  });
  check_near(z.copy(), reference::linear(linear.exact(), next.exact, {}), 1e-5);
}

TEST_CASE("memory that was not shared is our mistake") {
  const auto device = open_unit();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  std::vector<float> y(kTokens * kColumns);
  device->begin_step();
  CHECK_THROWS_AS(device->linear({.input = {.x = linear.x.data(), .tokens = kTokens},
                                  .weights = placed.get(),
                                  .columns = {0, kColumns},
                                  .y = y.data(),
                                  .y_stride = kColumns}),
                  std::logic_error);
  CHECK_NOTHROW(device->end_step());
  CHECK_THROWS_AS(device->share(linear.x.block().data + 4, 100), std::logic_error);
  CHECK_THROWS_AS(device->share(linear.x.block().data, 100), std::logic_error);
  step(*device, [&] { linear.run(*device, *placed); });  // and the unit goes on
}

TEST_CASE("memory is not made while a step is recorded") {
  const auto device = open_unit();
  const SmallLinear linear({device.get()});
  const auto placed = device->place(linear.weights.source(), {0, kColumns});
  device->begin_step(1);
  CHECK_THROWS_AS(device->allocate(100), std::logic_error);
  device->end_step();
  // What was recorded up to there is dropped.
  CHECK_FALSE(device->begin_step(1));
  linear.run(*device, *placed);
  device->launch();
  device->end_step();
  CHECK(device->begin_step(1));
  device->end_step();
}

TEST_CASE("the largest value's index goes straight to host memory, recorded too") {
  const auto device = open_unit();
  const Exchanged<float> values({device.get()}, 1000);
  const Exchanged<int32_t> index({device.get()}, 1);
  const auto queue = [&] {
    device->receive(values.block());
    device->argmax({.values = values.data(), .n = 1000, .index = index.data()});
  };
  for (const int64_t largest : {700, 3, 999}) {
    values.fill(1);
    values[largest] = 2;
    index[0] = -1;
    if (!device->begin_step(1)) queue();
    device->launch();
    device->end_step();
    CHECK(index[0] == largest);
  }
}

TEST_CASE("embedding rows are the driver's work") {
  const auto device = open_unit();
  const auto table = make_matrix(DType::kQ4_0, 10, kK, 1);
  const std::vector<int32_t> ids{7, 0};
  std::vector<float> x(2 * kK);
  device->embed({.table = table.source(), .token_ids = ids, .x = x.data()});
  reference::Matrix exact(2, kK);
  exact << table.exact.row(7), table.exact.row(0);
  check_near(x, exact, 1e-6);
}
