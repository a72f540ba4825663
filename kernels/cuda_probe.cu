// A kernel that does nothing but read: the bandwidth that the others are measured against.
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_ptx.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 8;  ///< 16-byte loads of a thread before the first is used

/// Each block walks tiles of kThreads * kInFlight vectors, grid after grid.
__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4* memory, int64_t vectors, uint32_t* never) {
  constexpr int64_t kTile = kThreads * kInFlight;
  uint32_t sum = 0;
  for (int64_t tile = blockIdx.x * kTile; tile < vectors; tile += gridDim.x * kTile) {
    uint4 loaded[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = tile + i * kThreads + static_cast<int64_t>(threadIdx.x);
      loaded[i] = at < vectors ? load_streaming(memory + at) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i)
      sum ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
  }
  // The sum of finite values near zero, which is all that probes read, never has every bit set.
  if (sum == 0xffffffffu) *never = sum;
}

}  // namespace

void read_all(const std::byte* memory, int64_t bytes, uint32_t* never, cudaStream_t stream) {
  const int64_t vectors = bytes / 16;
  if (vectors == 0) return;
  const int64_t tiles = div_up(vectors, kThreads * kInFlight);
  const auto blocks = static_cast<unsigned>(tiles < 2048 ? tiles : 2048);
  launch({.grid = dim3(blocks), .block = dim3(kThreads), .stream = stream}, read_kernel,
         reinterpret_cast<const uint4*>(memory), vectors, never);
}

}  // namespace tandem::cuda
