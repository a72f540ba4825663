// A kernel with a mistake in it is caught: by the comparison that real kernels pass, where it
// computes something wrong, and at its line, where it reads or waits where it must not.
#include <cmath>
#include <string>

#include "cuda_emulation_death.h"
#include "test_data.h"

using namespace tandem;

namespace {

/// Mistakes that people make. Each is the only one of its kernel.
enum class Mistake {
  kNone,
  kNoBarrier,         ///< sums of other warps are read before they are there
  kNoSecondBarrier,   ///< shared memory is used again while others read it
  kOneTooMany,        ///< <= for <
  kOneTooFew,         ///< the last element is not read
  kUnwritten,         ///< the last element is not written
  kDivergentBarrier,  ///< a barrier that only threads with work come to
  kDivergentShuffle,  ///< a shuffle that only they come to
};

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr unsigned kWholeWarp = 0xffffffff;

__device__ float sum_of_warp(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kWholeWarp, x, lanes);
  return x;
}

// Mistakes that are reported, each at its line.

constexpr int kLineOfRead = __LINE__ + 1;
__device__ float square_at(const float* x, int i) { return x[i] * x[i]; }

constexpr int kLineOfShuffle = __LINE__ + 1;
__device__ float sum_with_neighbour(float x) { return x + __shfl_xor_sync(kWholeWarp, x, 1); }

constexpr int kLineOfBarrier = __LINE__ + 1;
__device__ void wait_for_others() { __syncthreads(); }

/// out = x / sqrt(mean of squares) of rows of k, one block after another, as cuda_prepare.cu norms
/// an input.
template <Mistake kMistake>
__global__ void __launch_bounds__(kThreads) norm_rows(const float* x, float* out, int rows, int k) {
  constexpr auto is = [](Mistake mistake) { return mistake == kMistake; };
  constexpr int kMore = is(Mistake::kOneTooMany) ? 1 : is(Mistake::kOneTooFew) ? -1 : 0;
  __shared__ float sums[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  for (int row = static_cast<int>(blockIdx.x); row < rows; row += static_cast<int>(gridDim.x)) {
    float sum = 0;
    for (int i = thread; i < k + kMore; i += kThreads) sum += square_at(x, row * k + i);
    if (is(Mistake::kDivergentShuffle) && thread < k) sum = sum_with_neighbour(sum);
    sum = sum_of_warp(sum);
    if (thread % 32 == 0) sums[thread / 32] = sum;
    if (!is(Mistake::kNoBarrier) && (!is(Mistake::kDivergentBarrier) || thread < k))
      wait_for_others();
    const float all = sums[0] + sums[1] + sums[2] + sums[3];
    if (!is(Mistake::kNoSecondBarrier)) __syncthreads();
    const float inverse = 1 / sqrtf(all / static_cast<float>(k));
    const int written = is(Mistake::kUnwritten) ? k - 1 : k;
    for (int i = thread; i < written; i += kThreads) out[row * k + i] = x[row * k + i] * inverse;
  }
}

using Kernel = void (*)(const float*, float*, int, int);

/// Rows of one length, of which a block takes three.
struct Rows {
  explicit Rows(int length, int count = 12)
      : rows(count), k(length), x(random_floats(int64_t{rows} * k, 1)) {}

  /// `behind` floats of the input's allocation come after the last row.
  std::vector<float> norm(Kernel kernel, size_t behind = 1) const {
    Bench<float> in(x.size() + behind), out(x.size());
    REQUIRE(cudaMemcpyAsync(in.data, x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice,
                            out.stream) == cudaSuccess);
    cuda::launch({.grid = dim3(static_cast<unsigned>((rows + 2) / 3)),
                  .block = kThreads,
                  .stream = out.stream},
                 kernel, in.data, out.data, rows, k);
    return out.read();
  }
  /// As check_near() has it: not above 1 where the kernel is right.
  double worst_ratio(Kernel kernel) const {
    const std::vector<float> out = norm(kernel);
    const std::vector<float> ones(static_cast<size_t>(k), 1);
    const reference::Matrix exact =
        reference::rms_norm(reference::from_floats(x.data(), rows, k), ones, 0);
    return worst_element(reference::from_floats(out.data(), rows, k), exact,
                         1e-5 * (exact.cwiseAbs().array() + 1e-3).matrix())
        .ratio;
  }
  /// What the process writes to stderr that runs it, "" where it ends well.
  std::string death(Kernel kernel) const {
    return death_of([&] { norm(kernel, 0); });
  }

  int rows, k;
  std::vector<float> x;
};

std::string at_line(int line) { return "cuda_emulation_broken_test.cpp:" + std::to_string(line); }

/// Longer and shorter than a block, with and without a ragged end. Rows that one warp reads alone
/// need no barrier.
constexpr int kLengths[] = {300, 256, 100};

}  // namespace

TEST_CASE("the kernel is right without a mistake") {
  for (const int k : kLengths) CHECK(Rows(k).worst_ratio(norm_rows<Mistake::kNone>) <= 1);
}

TEST_CASE("a missing barrier gives wrong results, before shared memory is read and after") {
  for (const int k : kLengths) {
    CAPTURE(k);
    CHECK(Rows(k).worst_ratio(norm_rows<Mistake::kNoBarrier>) > 1);
    CHECK(Rows(k).worst_ratio(norm_rows<Mistake::kNoSecondBarrier>) > 1);
  }
}

TEST_CASE("a row's length that is off by one gives wrong results") {
  for (const int k : kLengths) {
    CAPTURE(k);
    CHECK(Rows(k).worst_ratio(norm_rows<Mistake::kOneTooMany>) > 1);
    CHECK(Rows(k).worst_ratio(norm_rows<Mistake::kOneTooFew>) > 1);
  }
}

TEST_CASE("a read past the end of a buffer is reported at its line, with asan") {
  if (!cuda_emulation::kAsan) return;
  const std::string text = Rows(256, 1).death(norm_rows<Mistake::kOneTooMany>);
  CHECK(contains(text, "heap-buffer-overflow"));
  CHECK(contains(text, "READ of size 4"));
  CHECK(contains(text, at_line(kLineOfRead)));
}

TEST_CASE("an output that is never written is NaN, and no comparison lets it pass") {
  const Rows rows(256);
  CHECK(rows.worst_ratio(norm_rows<Mistake::kUnwritten>) > 1);
  const std::vector<float> out = rows.norm(norm_rows<Mistake::kUnwritten>);
  for (size_t i = 0; i < out.size(); ++i) CHECK(std::isnan(out[i]) == (i % 256 == 255));
}

TEST_CASE("a barrier or a shuffle that some threads do not come to is reported at its line") {
  if (!can_fork()) return;
  // 31 elements: thread 31 and three warps have none.
  const std::string barrier = Rows(31).death(norm_rows<Mistake::kDivergentBarrier>);
  CHECK(contains(barrier, at_line(kLineOfBarrier)));
  CHECK(contains(barrier, "__syncthreads"));
  CHECK(contains(barrier, "wait_for_others"));
  const std::string shuffle = Rows(31).death(norm_rows<Mistake::kDivergentShuffle>);
  CHECK(contains(shuffle, at_line(kLineOfShuffle)));
  CHECK(contains(shuffle, "__shfl_xor_sync"));
  CHECK(Rows(31).death(norm_rows<Mistake::kNone>) == "");
}
