// What waits on flags must do, however the driver has a stream wait: in it, or by a kernel.
#pragma once

#include <thread>

#include "cuda_unit.h"

namespace tandem {

/// The unit waits for the host and the host for the unit, in a step at once and replayed.
inline void check_turns_with_the_host() {
  const auto device = open_unit();
  constexpr int64_t kTurns = 8;
  Exchanged<Flag> to_unit({device.get()}, kTurns), to_host({device.get()}, kTurns);
  Exchanged<float> x({device.get()}, kTurns * kK), y({device.get()}, kTurns * 16);
  const auto matrix = make_matrix(DType::kF32, 16, kK, 1);
  const auto placed = device->place(matrix.source(), {0, 16});
  for (const uint64_t recording : {0, 5, 5, 5}) {
    const auto values = random_floats(kTurns * kK, 10);
    x.fill(0);
    y.fill(0);
    std::vector<float> seen(kTurns * 16);
    std::thread host([&] {
      for (int64_t turn = 0; turn < kTurns; ++turn) {
        std::copy_n(values.begin() + turn * kK, kK, x.data() + turn * kK);
        to_unit[turn].raise();
        while (!to_host[turn].take()) relax(true);
        std::copy_n(y.data() + turn * 16, 16, seen.begin() + turn * 16);
      }
    });
    if (!device->begin_step(recording))
      for (int64_t turn = 0; turn < kTurns; ++turn) {
        device->wait(to_unit[turn]);
        device->receive({.data = x.block().data + turn * kK * 4, .rows = 1, .bytes = kK * 4});
        device->linear({.input = {.x = x.data() + turn * kK, .tokens = 1},
                        .weights = placed.get(),
                        .columns = {0, 16},
                        .y = y.data() + turn * 16,
                        .y_stride = 16});
        device->raise(to_host[turn]);
      }
    device->launch();
    device->end_step();
    host.join();
    check_near(
        seen,
        reference::linear(reference::from_floats(values.data(), kTurns, kK), matrix.exact, {}),
        1e-5);
    for (int64_t turn = 0; turn < kTurns; ++turn) {
      CHECK(to_unit[turn].value == Flag::kLowered);
      CHECK(to_host[turn].value == Flag::kLowered);
    }
  }
}

/// A cancelled flag lets a stream go on, and a unit that has to be closed.
inline void check_cancelled_flags() {
  auto device = open_unit();
  Exchanged<Flag> flags({device.get()}, 2);
  for (const uint64_t recording : {0, 5, 5}) {
    flags[0].value = Flag::kLowered;
    if (!device->begin_step(recording)) {
      device->wait(flags[0]);
      device->raise(flags[1]);
    }
    device->launch();
    CHECK_FALSE(flags[1].take());
    flags[0].cancel();
    device->end_step();
    CHECK(flags[1].take());
  }
  // A step that its driver left in the middle.
  device->begin_step();
  device->wait(flags[0]);
  flags[0].cancel();
  device.reset();
  CHECK_FALSE(flags[1].take());
}

}  // namespace tandem
