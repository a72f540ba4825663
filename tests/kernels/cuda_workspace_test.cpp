// What is counted of a CUDA unit's memory is what it holds.
#include "kernels/cuda_workspace.h"

#include <doctest/doctest.h>

#include <array>

#include "cuda_unit.h"
#include "kernels/cuda_device_copies.cuh"

using namespace tandem;

TEST_CASE("what fits into a slot is one piece, and what does not fills one") {
  for (const DTypeInfo& d : kDTypes) {
    for (const int64_t k : {256, 4096, 14336}) {
      CAPTURE(d.name);
      CAPTURE(k);
      const cuda::WeightMatrix matrix{
          .dtype = d.dtype, .k = k, .columns = {0, 1 << 20}, .planes = {}};
      const std::array pair{matrix, matrix};
      for (const size_t together : {1, 2}) {
        const std::span<const cuda::WeightMatrix> matrices(pair.data(), together);
        const int64_t bytes = cuda::slot_bytes(matrices, kColumnAlign);
        const int64_t piece = columns_of_slot(kColumnAlign, bytes);
        CHECK(cuda::columns_at_once(matrices, piece) == piece);
        CHECK(cuda::columns_at_once(matrices, piece - 8) == piece - 8);  // heads of 24, say
        CHECK(cuda::columns_at_once(matrices, 2 * piece) == piece);
        if (k > 256)  // else 16 columns' scales take less than what they are rounded to
          CHECK(cuda::slot_bytes(matrices, piece) > kStreamSlotBytes - bytes);
      }
    }
  }
}

TEST_CASE("a CUDA unit's scratch is what is counted for its limits") {
  for (const DeviceLimits& limits :
       {DeviceLimits{.tokens = 1, .k = 64, .columns = 96, .heads = 1, .head_dim = 16},
        DeviceLimits{.tokens = 16,
        .k = 5632,
        .columns = 32000,
        .context = 1024,
        .heads = 32,
        .head_dim = 64},
        DeviceLimits{
            .tokens = 17, .k = 100, .columns = 50, .context = 4097, .heads = 7, .head_dim = 24},
        DeviceLimits{.tokens = 256,
        .k = 1024,
        .columns = 4096,
        .context = 512,
        .heads = 8,
        .head_dim = 64}}) {
    CAPTURE(limits.tokens);
    const auto unit = open_unit();
    unit->reserve(limits);
    CHECK(unit->workspace_bytes() == cuda::cuda_workspace(limits).bytes());
  }
}

TEST_CASE("steps within what was reserved take no more scratch, narrow or wide") {
  const auto unit = open_unit();
  const SmallLinear narrow({unit.get()});
  constexpr int64_t kMany = 40;
  Exchanged<float> x({unit.get()}, kMany * kK), h({unit.get()}, kMany * kColumns);
  const auto gate = make_matrix(DType::kQ4_0, kColumns, kK, 1);
  const auto placed = unit->place(narrow.weights.source(), {0, kColumns});
  const auto placed_gate = unit->place(gate.source(), {0, kColumns});
  const DeviceLimits limits{.tokens = kMany, .k = kK, .columns = kColumns, .heads = 1};
  unit->reserve(limits);
  step(*unit, [&] {
    narrow.run(*unit, *placed);
    unit->gate_up({.input = {.x = x.data(), .tokens = kMany},
                   .gate = placed_gate.get(),
                   .up = placed_gate.get(),
                   .columns = {0, kColumns},
                   .h = h.data(),
                   .h_stride = kColumns});
  });
  CHECK(unit->workspace_bytes() == cuda::cuda_workspace(limits).bytes());
}

TEST_CASE("what a step needs of scratch never shrinks where its limits grow") {
  DeviceLimits limits{
      .tokens = 1, .k = 32, .columns = 16, .context = 1, .heads = 1, .head_dim = 16};
  int64_t last = 0;
  for (int i = 0; i < 200; ++i) {
    limits.tokens += i % 5;
    limits.k += 32 * (i % 7);
    limits.columns += 96;
    limits.context += 61;
    const int64_t bytes = cuda::cuda_workspace(limits).bytes();
    CHECK(bytes >= last);
    last = bytes;
  }
}

TEST_CASE("a placed matrix takes what is counted for its columns, whatever the dtype") {
  const auto unit = open_unit();
  for (const DTypeInfo& dtype : kDTypes) {
    const int64_t k = std::max<int64_t>(dtype.block_size, 64);
    const TestMatrix matrix = make_matrix(dtype.dtype, 96, k, 1, Values::kRandom, 24);
    for (const Range columns : {Range{0, 96}, Range{24, 72}, Range{90, 96}})
      CHECK(unit->place(matrix.source(), columns)->bytes ==
            cuda::matrix_bytes(dtype.dtype, columns.size(), k));
  }
}
