// What the threads of a block share while they attend a chunk, and how lanes add up scores.
// Included by cuda_attention_chunk.cuh only.
#pragma once

#include "kernels/cuda_attention_parts.cuh"
#include "kernels/cuda_kv.cuh"
#include "kernels/cuda_warp.cuh"

namespace tandem::cuda {

inline constexpr int kChunk = static_cast<int>(kAttentionChunk);
inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kStepRows = 32;  ///< of the step buffer: past % 16, then at most 16 tokens
inline constexpr int kPass = 4;       ///< rows whose values are summed over threads at once

/// What the threads of a block share. 47 KiB at most: static shared memory ends at 48.
template <int kDims, int kRows>
struct ChunkTile {
  static constexpr int kPassRows = kRows < kPass ? kRows : kPass;
  Floats<4> partial[kPassRows][2][kThreads + 4];  ///< a thread's halves of eight elements of o
  Floats<kRows> q[kDims];
  Floats<kRows> weights[kChunk];   ///< scores, then e^(score - m)
  Floats<kRows> fresh[kStepRows];  ///< scores of the step buffer's rows
  int path[kRows][kMaxDecodeTokens];
  float top[kRows];
  float sum[kRows];
};

/// Adds a row's eight values over the 16 lanes of equal parity. Each lane is left with the sum of
/// value_of_lane(lane).
__device__ inline float sum_over_lanes(const float (&values)[8], int lane) {
  float four[4], two[2];
  const bool upper4 = (lane & 16) != 0, upper2 = (lane & 8) != 0, upper1 = (lane & 4) != 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float give = upper4 ? values[i] : values[i + 4];
    four[i] = (upper4 ? values[i + 4] : values[i]) + __shfl_xor_sync(kAllLanes, give, 16);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float give = upper2 ? four[i] : four[i + 2];
    two[i] = (upper2 ? four[i + 2] : four[i]) + __shfl_xor_sync(kAllLanes, give, 8);
  }
  const float give = upper1 ? two[0] : two[1];
  const float one = (upper1 ? two[1] : two[0]) + __shfl_xor_sync(kAllLanes, give, 4);
  return one + __shfl_xor_sync(kAllLanes, one, 2);
}
__device__ inline int value_of_lane(int lane) {
  return (lane >> 4 & 1) * 4 + (lane >> 3 & 1) * 2 + (lane >> 2 & 1);
}

}  // namespace tandem::cuda
