// Moves what units exchange between mapped host memory and the device's own copy, and tells the
// time from inside a stream.
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_ptx.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;
// Reads of host memory take a microsecond or more each: a thread makes one or few, and there are
// many threads.
constexpr int64_t kMostBlocks = 1024;

/// Grid: (blocks that walk a row, blocks that walk the rows). `stride` in units.
template <class Unit>
__global__ void __launch_bounds__(kThreads)
    copy_rows(const Unit* from, Unit* to, const int64_t rows, const int64_t units,
              const int64_t stride) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    for (int64_t i = first; i < units; i += static_cast<int64_t>(gridDim.x) * kThreads)
      to[row * stride + i] = from[row * stride + i];
}

template <class Unit>
void copy_as(const std::byte* from, std::byte* to, const Block& block, cudaStream_t stream) {
  constexpr auto kBytes = static_cast<int64_t>(sizeof(Unit));
  const int64_t units = block.bytes / kBytes;
  const int64_t across = div_up(units, kThreads);
  const int64_t x = across < kMostBlocks ? across : kMostBlocks;
  const int64_t y = block.rows < kMostBlocks / x ? block.rows : kMostBlocks / x;
  launch({.grid = dim3(static_cast<unsigned>(x), static_cast<unsigned>(y)),
          .block = dim3(kThreads),
          .stream = stream},
         copy_rows<Unit>, reinterpret_cast<const Unit*>(from), reinterpret_cast<Unit*>(to),
         block.rows, units, block.stride / kBytes);
}

/// Whether all runs begin on and are multiples of `bytes`.
bool aligned(const std::byte* from, const std::byte* to, const Block& block, uint64_t bytes) {
  const uint64_t all = reinterpret_cast<uint64_t>(from) | reinterpret_cast<uint64_t>(to) |
                       static_cast<uint64_t>(block.bytes) | static_cast<uint64_t>(block.stride);
  return all % bytes == 0;
}

__global__ void store_time(int64_t* shared, const int64_t* offset_ns) {
  *shared = static_cast<int64_t>(global_timer_ns()) + *offset_ns;
}

}  // namespace

void receive(const std::byte* shared, std::byte* own, const Block& block, cudaStream_t stream) {
  if (block.rows <= 0 || block.bytes <= 0) return;
  Block runs = block;
  if (runs.rows == 1 || runs.stride == runs.bytes) {  // one run, whatever the stride
    runs.bytes *= runs.rows;
    runs.rows = 1;
    runs.stride = runs.bytes;
  }
  if (aligned(shared, own, runs, 16)) return copy_as<uint4>(shared, own, runs, stream);
  if (aligned(shared, own, runs, 4)) return copy_as<uint32_t>(shared, own, runs, stream);
  copy_as<unsigned char>(shared, own, runs, stream);
}

void stamp(int64_t* shared, const int64_t* offset_ns, cudaStream_t stream) {
  launch({.grid = dim3(1), .block = dim3(1), .stream = stream}, store_time, shared, offset_ns);
}

}  // namespace tandem::cuda
