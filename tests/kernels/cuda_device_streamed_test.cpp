// Weights that a CUDA unit streams from the host's memory.
#include "cuda_unit.h"

using namespace tandem;

namespace {

/// A matrix of 4.3 slots of 16 MiB: the first slot is used twice. Cheap values, no reference.
struct WideMatrix {
  static constexpr int64_t kWide = 1100, kDeep = 16384;
  std::vector<float> rows = [] {
    std::vector<float> values(static_cast<size_t>(kWide * kDeep));
    uint32_t state = 1;
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-36f;
    }
    return values;
  }();
  MatrixSource source() const {
    return {.dtype = DType::kF32,
            .columns = kWide,
            .k = kDeep,
            .rows = reinterpret_cast<const std::byte*>(rows.data())};
  }
};

}  // namespace

TEST_CASE("resident and streamed weights give the same bits, in one step and in replayed ones") {
  const auto device = open_unit();
  constexpr int64_t kWide = WideMatrix::kWide, kDeep = WideMatrix::kDeep;
  const WideMatrix matrix;
  Exchanged<float> x({device.get()}, kDeep), y({device.get()}, kWide);
  x.assign(random_floats(kDeep, 3));
  const auto run = [&](Home home, uint64_t recording, int times) {
    const auto placed = device->place(matrix.source(), {0, kWide}, home);
    std::vector<float> result;
    for (int i = 0; i < times; ++i) {
      y.fill(-1);
      if (!device->begin_step(recording)) {
        device->receive(x.block());
        device->linear({.input = {.x = x.data(), .tokens = 1},
                        .weights = placed.get(),
                        .columns = {16, kWide},
                        .y = y.data(),
                        .y_stride = kWide});
        device->launch();
      }
      device->end_step();
      if (i > 0) CHECK(differing(result, y.copy()) == 0);
      result = y.copy();
    }
    device->forget_recordings();
    return result;
  };
  const auto resident = run(Home::kResident, 0, 1);
  CHECK(resident[15] == -1);
  CHECK(std::count(resident.begin() + 16, resident.end(), -1.0f) == 0);
  CHECK(differing(run(Home::kStreamed, 0, 1), resident) == 0);
  // The emulation replays with copies as early and as late as the recording allows.
  CHECK(differing(run(Home::kStreamed, 1, 3), resident) == 0);
}

TEST_CASE("gate streamed and up resident, or both streamed, give the same bits as both resident") {
  const auto device = open_unit();
  Exchanged<float> x({device.get()}, kTokens * kK), h({device.get()}, kTokens * kColumns);
  x.assign(random_floats(kTokens * kK, 3));
  const auto gate = make_matrix(DType::kQ4_0, kColumns, kK, 1);
  const auto up = make_matrix(DType::kBF16, kColumns, kK, 2);
  const auto run = [&](Home gate_home, Home up_home) {
    const auto placed_gate = device->place(gate.source(), {0, kColumns}, gate_home);
    const auto placed_up = device->place(up.source(), {0, kColumns}, up_home);
    step(*device, [&] {
      device->receive(x.block());
      device->gate_up({.input = {.x = x.data(), .tokens = kTokens},
                       .gate = placed_gate.get(),
                       .up = placed_up.get(),
                       .columns = {0, kColumns},
                       .h = h.data(),
                       .h_stride = kColumns});
    });
    return h.copy();
  };
  const auto resident = run(Home::kResident, Home::kResident);
  CHECK(differing(run(Home::kStreamed, Home::kResident), resident) == 0);
  CHECK(differing(run(Home::kResident, Home::kStreamed), resident) == 0);
  CHECK(differing(run(Home::kStreamed, Home::kStreamed), resident) == 0);
}

TEST_CASE("pieces of streamed columns that lie in several planes give the bits of resident ones") {
  const auto device = open_unit();
  // Two pieces: columns of 5.6 KiB, and 16 MiB a slot.
  constexpr int64_t kWide = 3200, kDeep = 8192;
  std::vector<std::byte> rows(static_cast<size_t>(kWide * row_bytes(DType::kQ5_K, kDeep)));
  uint32_t state = 1;
  for (std::byte& byte : rows) byte = static_cast<std::byte>((state = state * 1664525u + 1) >> 24);
  for (size_t at = 0; at < rows.size(); at += static_cast<size_t>(info(DType::kQ5_K).block_bytes))
    set_block_scale(DType::kQ5_K, 0.01f, &rows[at]);
  const MatrixSource source{
      .dtype = DType::kQ5_K, .columns = kWide, .k = kDeep, .rows = rows.data()};
  Exchanged<float> x({device.get()}, kDeep), y({device.get()}, kWide);
  x.assign(random_floats(kDeep, 3));
  const auto run = [&](Home home) {
    const auto placed = device->place(source, {0, kWide}, home);
    y.fill(-1);
    step(*device, [&] {
      device->receive(x.block());
      device->linear({.input = {.x = x.data(), .tokens = 1},
                      .weights = placed.get(),
                      .columns = {0, kWide},
                      .y = y.data(),
                      .y_stride = kWide});
    });
    return y.copy();
  };
  CHECK(differing(run(Home::kStreamed), run(Home::kResident)) == 0);
}
