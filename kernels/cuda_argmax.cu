// The token that greedy decoding chooses: the index of the largest logit.
#include "kernels/cuda_arithmetic.h"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_warp.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kLanes;

/// The same in all lanes.
__device__ Candidate warp_larger(Candidate best) {
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    const Candidate other{__shfl_xor_sync(kAllLanes, best.value, mask),
                          __shfl_xor_sync(kAllLanes, best.index, mask)};
    best = larger(best, other);
  }
  return best;
}

/// One block: 4 n bytes from the L2, half a megabyte for the largest vocabularies, take one
/// multiprocessor a few microseconds, as long as a second launch for the results of many would.
__global__ void __launch_bounds__(kThreads)
    find_largest(const float* values, const int n, int32_t* shared) {
  __shared__ Candidate of_warps[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  Candidate best = no_candidate();
#pragma unroll 8
  for (int i = thread; i < n; i += kThreads) best = larger(best, {values[i], i});
  best = warp_larger(best);
  if (lane_of_thread() == 0) of_warps[warp_of_thread()] = best;
  __syncthreads();
  if (warp_of_thread() > 0) return;
  best = warp_larger(of_warps[thread]);
  if (thread == 0) *shared = best.index == no_candidate().index ? 0 : best.index;
}

}  // namespace

void argmax(const ArgmaxLaunch& request, cudaStream_t stream) {
  launch({.grid = dim3(1), .block = dim3(kThreads), .stream = stream}, find_largest, request.values,
         static_cast<int>(request.n), request.shared);
}

}  // namespace tandem::cuda
