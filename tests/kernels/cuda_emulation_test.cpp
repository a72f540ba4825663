// The emulated CUDA runtime: how a kernel's threads run, and what is found wrong with them. Kernels
// of tandem are tested on it, and on GPUs, by the other files.
#include <array>
#include <cmath>
#include <string>
#include <thread>

#include "cuda_emulation_death.h"

using namespace tandem;

namespace {

using cuda::launch;

constexpr unsigned kAllLanes = 0xffffffff;

/// "file:line: " of a line of this file.
std::string line_of(int line) { return std::string(__FILE__) + ":" + std::to_string(line) + ": "; }

// --- threads, warps, blocks ---------------------------------------------------------------------

__global__ void write_indices(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] =
      static_cast<int>(thread + 1000 * block);
}

TEST_CASE("every thread of a grid runs once and knows its place") {
  Bench<int> bench(5 * 3 * 2 * 4 * 3 * 2);
  launch({.grid = {5, 3, 2}, .block = {4, 3, 2}, .stream = bench.stream}, write_indices,
         bench.data);
  const std::vector<int> out = bench.read();
  for (int i = 0; i < static_cast<int>(out.size()); ++i)
    CHECK(out[static_cast<size_t>(i)] == i % 24 + 1000 * (i / 24));
}

template <bool kBarrier>
__global__ void reverse_blocks(float* data) {
  __shared__ float tile[128];
  const unsigned i = threadIdx.x, first = blockIdx.x * blockDim.x;
  tile[i] = data[first + i];
  if (kBarrier) __syncthreads();
  data[first + i] = tile[blockDim.x - 1 - i];
}

__global__ void fill_ascending(float* data) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  data[i] = static_cast<float>(i);
}

/// Blocks of 128 threads that are not reversed.
int wrong_blocks(void (*reverse)(float*), int blocks, int device = 0) {
  Bench<float> bench(static_cast<size_t>(blocks) * 128, device);
  const cuda::LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(blocks)), .block = 128, .stream = bench.stream};
  launch(shape, fill_ascending, bench.data);
  launch(shape, reverse, bench.data);
  const std::vector<float> out = bench.read();
  int wrong = 0;
  for (size_t block = 0; block < static_cast<size_t>(blocks); ++block) {
    bool same = true;
    for (size_t i = 0; i < 128; ++i)
      same &= out[block * 128 + i] == static_cast<float>(block * 128 + 127 - i);
    wrong += !same;
  }
  return wrong;
}

TEST_CASE("a barrier orders shared memory, and without it every block differs") {
  CHECK(wrong_blocks(reverse_blocks<true>, 6) == 0);
  CHECK(wrong_blocks(reverse_blocks<false>, 6) == 6);
}

TEST_CASE("two devices run at once, each with shared memory of its own") {
  std::array<int, 2> wrong;
  std::thread other([&] { wrong[1] = wrong_blocks(reverse_blocks<true>, 100, 1); });
  wrong[0] = wrong_blocks(reverse_blocks<true>, 100, 0);
  other.join();
  CHECK(wrong == std::array<int, 2>{0, 0});
}

// Takes what a neighbour has written, without a barrier: right where that one came first.
__global__ void read_neighbour(float* data, int step) {
  __shared__ float tile[64];
  const int i = static_cast<int>(threadIdx.x), from = i + step;
  tile[i] = data[blockIdx.x * 64 + threadIdx.x];
  if (from >= 0 && from < 64) data[blockIdx.x * 64 + threadIdx.x] = tile[from] + 1;
}

TEST_CASE("a missing barrier shows whichever thread it needs to come first") {
  for (const int step : {-1, 1}) {
    CAPTURE(step);
    Bench<float> bench(8 * 64);
    const cuda::LaunchShape shape{.grid = 8, .block = 64, .stream = bench.stream};
    launch(shape, fill_ascending, bench.data);
    launch(shape, read_neighbour, bench.data, step);
    const std::vector<float> out = bench.read();
    int right = 0;
    for (int block = 0; block < 8; ++block) {
      const int i = block * 64 + 30;
      right += out[static_cast<size_t>(i)] == static_cast<float>(i + step + 1);
    }
    CHECK(right > 0);  // in some blocks that thread did come first
    CHECK(right < 8);
  }
}

__global__ void warp_functions(int* sums, unsigned* ballots, double* doubles, int64_t* longs) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  int sum = lane;
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(kAllLanes, sum, distance);
  sums[threadIdx.x] = sum;
  ballots[threadIdx.x] = __ballot_sync(kAllLanes, lane % 3 == 0);
  doubles[threadIdx.x] = __shfl_down_sync(kAllLanes, lane + 0.5, 2u, 8);
  longs[threadIdx.x] = __shfl_sync(kAllLanes, int64_t{lane} << 40, 5);
  if (lane < 16) {  // half a warp meets alone
    const int highest = __reduce_max_sync(0xffffu, -lane);
    const int previous = __shfl_up_sync(0xffffu, lane, 1u);
    sums[threadIdx.x] += 1000 * highest + 10000 * previous;
  }
  __syncwarp();
}

TEST_CASE("warps shuffle, vote and reduce") {
  Bench<int> sums(64);
  Bench<unsigned> ballots(64);
  Bench<double> doubles(64);
  Bench<int64_t> longs(64);
  launch({.grid = {}, .block = 64, .stream = sums.stream}, warp_functions, sums.data, ballots.data,
         doubles.data, longs.data);
  const std::vector<int> sum = sums.read();
  const auto ballot = ballots.read();
  const auto moved = doubles.read();
  const auto shifted = longs.read();
  for (size_t i = 0; i < 64; ++i) {
    const int lane = static_cast<int>(i % 32);
    // 0 + 1 + ... + 31 = 496; the highest of 0, -1 ... -15 is 0; lane 0 has no previous but itself.
    CHECK(sum[i] == 496 + (lane < 16 ? 10000 * std::max(lane - 1, 0) : 0));
    CHECK(ballot[i] == 0x49249249);                               // bits 0, 3 ... 30
    CHECK(moved[i] == (lane % 8 < 6 ? lane + 2.5 : lane + 0.5));  // segments of 8
    CHECK(shifted[i] == int64_t{5} << 40);
  }
}

__global__ void count_votes(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(i % 2);
  const int any = __syncthreads_or(i == 17);
  const int all = __syncthreads_and(i != 17);
  out[i] = count * 100 + any * 10 + all;
}

TEST_CASE("barriers count votes") {
  Bench<int> bench(50);
  launch({.grid = {}, .block = 50, .stream = bench.stream}, count_votes, bench.data);
  for (const int value : bench.read()) CHECK(value == 25 * 100 + 10);
}

__global__ void count_blocks(unsigned* counters) {
  if (threadIdx.x == 0) {
    __threadfence();
    const unsigned ticket = atomicInc(&counters[0], gridDim.x - 1);
    if (ticket == gridDim.x - 1) atomicAdd(&counters[1], 1u);
  }
  atomicMax(&counters[2], blockIdx.x * blockDim.x + threadIdx.x);
}

TEST_CASE("atomics count, wrap and keep the largest") {
  Bench<unsigned> bench(3);
  cudaMemsetAsync(bench.data, 0, 12, bench.stream);
  launch({.grid = 7, .block = 40, .stream = bench.stream}, count_blocks, bench.data);
  CHECK(bench.read() == std::vector<unsigned>{0, 1, 279});
}

// --- what is found ------------------------------------------------------------------------------

constexpr int kHalfBarrier = __LINE__ + 3;
__global__ void half_at_a_barrier(int threads) {
  if (static_cast<int>(threadIdx.x) >= threads) return;
  __syncthreads();
}

constexpr int kFirstBarrier = __LINE__ + 3;
__global__ void at_two_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

constexpr int kShuffleOfHalf = __LINE__ + 3;
__global__ void shuffle_of_half(float* out) {
  float x = 1;
  if (threadIdx.x < 20) x += __shfl_xor_sync(kAllLanes, x, 1);
  __syncthreads();
  *out = x;
}

constexpr int kForeignLane = __LINE__ + 2;
__global__ void read_foreign_lane(int* out) {
  if (threadIdx.x < 16) *out = __shfl_sync(0xffffu, 1, 20);
}

TEST_CASE("a barrier that not all threads come to is reported at its line") {
  if (!can_fork()) return;
  const std::string half = death_of_kernel(64, half_at_a_barrier, 40);
  CHECK(half.find(line_of(kHalfBarrier) + "__syncthreads") != std::string::npos);
  CHECK(half.find("threads 0-39 wait") != std::string::npos);
  CHECK(half.find("40-63 ended") != std::string::npos);
  CHECK(half.find("half_at_a_barrier") != std::string::npos);

  const std::string two = death_of_kernel(64, at_two_barriers);
  CHECK(two.find(line_of(kFirstBarrier)) != std::string::npos);
  CHECK(two.find(":" + std::to_string(kFirstBarrier + 2)) != std::string::npos);
}

TEST_CASE("a shuffle that not all lanes come to is reported at its line") {
  if (!can_fork()) return;
  const std::string text = death_of_kernel(32, shuffle_of_half, static_cast<float*>(nullptr));
  CHECK(text.find(line_of(kShuffleOfHalf) + "__shfl_xor_sync") != std::string::npos);
  CHECK(text.find("threads 0-19 wait") != std::string::npos);
  CHECK(text.find("20-31 wait in __syncthreads") != std::string::npos);

  const std::string foreign = death_of_kernel(32, read_foreign_lane, static_cast<int*>(nullptr));
  CHECK(foreign.find(line_of(kForeignLane) + "__shfl_sync by thread 0 reads a lane outside") !=
        std::string::npos);
}

__global__ void write_up_to(float* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = 1;
}

TEST_CASE("a write beside an allocation ends the program, with asan") {
  if (!cuda_emulation::kAsan) return;
  const std::string text = death_of([] {
    Bench<float> bench(100);
    launch({.grid = 4, .block = 32, .stream = bench.stream}, write_up_to, bench.data, 101);
    cudaStreamSynchronize(bench.stream);
  });
  CHECK(text.find("heap-buffer-overflow") != std::string::npos);
  CHECK(text.find("write_up_to") != std::string::npos);
}

__global__ void write_shared(float* out, int i) {
  __shared__ float tile[32];
  tile[i] = 1;
  *out = tile[0];
}
__global__ void load_float4(float* out) { *out = reinterpret_cast<const float4*>(out + 1)->x; }

TEST_CASE(
    "an index beyond a shared array ends the program, and so does a bad vector load, with ubsan") {
  if (!cuda_emulation::kAsan)
    return;  // GCC does not say whether ubsan is on; here both are or none
  const auto death = [](auto kernel, auto... arguments) {
    return death_of([&] {
      Bench<float> bench(8);
      launch({.grid = {}, .block = 1, .stream = bench.stream}, kernel, bench.data, arguments...);
      cudaStreamSynchronize(bench.stream);
    });
  };
  CHECK(death(write_shared, 31) == "");
  CHECK(death(write_shared, 32).find("index 32 out of bounds") != std::string::npos);
  CHECK(death(load_float4).find("misaligned address") != std::string::npos);
}

constexpr int kMisaligned = __LINE__ + 1;
__global__ void load_misaligned(const float* in) { __ldg(reinterpret_cast<const float4*>(in + 1)); }

TEST_CASE("a vector load from an address that is not aligned is reported at its line") {
  if (!can_fork()) return;
  const std::string text = death_of([] {
    Bench<float> bench(8);
    launch({.grid = {}, .block = 1, .stream = bench.stream}, load_misaligned,
           static_cast<const float*>(bench.data));
    cudaStreamSynchronize(bench.stream);
  });
  CHECK(text.find(line_of(kMisaligned) + "__ldg") != std::string::npos);
}

TEST_CASE("what no kernel has written is NaN") {
  Bench<float> bench(64);
  launch({.grid = 2, .block = 32, .stream = bench.stream}, write_up_to, bench.data, 63);
  const std::vector<float> out = bench.read();
  CHECK(out[62] == 1);
  CHECK(std::isnan(out[63]));
}

}  // namespace
