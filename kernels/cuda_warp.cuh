// What a kernel knows of its warp. Included by .cu files only.
#pragma once

#include <cuda_runtime.h>

namespace tandem::cuda {

inline constexpr int kLanes = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x % kLanes); }
__device__ inline int warp_of_thread() { return static_cast<int>(threadIdx.x / kLanes); }

/// Over all lanes, in a butterfly; the same in each of them.
__device__ inline float warp_sum(float x) {
  for (int mask = kLanes / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(kAllLanes, x, mask);
  return x;
}

}  // namespace tandem::cuda
