#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "cuda_test_data.h"
#include "kernels/cuda_arithmetic.h"

using namespace tandem;

namespace {

int32_t argmax(const std::vector<float>& values) {
  const DeviceArray<float> there(values);
  const DeviceArray<int32_t> index(1);
  cuda::argmax({.values = there.get(), .n = std::ssize(values), .shared = index.get()}, nullptr);
  return index.read().front();
}

}  // namespace

TEST_CASE("a CUDA unit finds the largest of few values and of many, wherever it stands") {
  for (const int64_t n : {1, 31, 33, 1000, 1024, 1025, 5000}) {
    std::vector<float> values = random_floats(n, 1);
    CAPTURE(n);
    CHECK(argmax(values) == std::ranges::max_element(values) - values.begin());
    for (const int64_t place : {int64_t{0}, n / 2, n - 1}) {
      std::vector<float> one = values;
      one[static_cast<size_t>(place)] = 100;
      CHECK(argmax(one) == place);
    }
    for (float& value : values) value -= 10;  // all below zero, where sums would begin
    CHECK(argmax(values) == std::ranges::max_element(values) - values.begin());
  }
}

TEST_CASE("of several largest values a CUDA unit takes the first") {
  for (const int64_t n : {40, 2000}) {
    std::vector<float> values(static_cast<size_t>(n), -3);
    CHECK(argmax(values) == 0);
    for (const int64_t first : {n - 1, n / 2, n / 2 - 1, int64_t{7}}) {
      values[static_cast<size_t>(first)] = 5;
      CAPTURE(first);
      CHECK(argmax(values) == first);
    }
  }
}

TEST_CASE("what is no number is never the largest, and without one the first stands for all") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values(1500, kNan);
  CHECK(argmax(values) == 0);
  values[1200] = -std::numeric_limits<float>::infinity();
  CHECK(argmax(values) == 1200);
  values[3] = 1;
  CHECK(argmax(values) == 3);
}

TEST_CASE("the larger of two candidates does not depend on their order") {
  using cuda::Candidate;
  const auto index = [](Candidate a, Candidate b) { return cuda::larger(a, b).index; };
  CHECK(index({1, 5}, {2, 9}) == 9);
  CHECK(index({2, 9}, {1, 5}) == 9);
  CHECK(index({1, 5}, {1, 4}) == 4);
  CHECK(index({1, 4}, {1, 5}) == 4);
  CHECK(index(cuda::no_candidate(), {-std::numeric_limits<float>::infinity(), 7}) == 7);
}
