// What kernel tests share: seeded values, weight matrices in file format, aligned memory, and the
// comparison with the reference. Header only, since a test program is made of *_test.cpp alone.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device.h"
#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/reference.h"

namespace tandem {

inline constexpr double kUnitRoundoff = 0x1p-24;  ///< of a float

/// Sets whose attention differs: of those on one vector type, which differ in dot products alone,
/// the best.
inline std::vector<const KernelSet*> attention_sets() {
  std::vector<const KernelSet*> sets;
  std::vector<std::string_view> seen;
  for (const KernelSet* set : kernel_sets()) {
    std::string_view vector_type = set->name;
    if (vector_type == "amx") vector_type = "avx512";
    if (vector_type == "avxvnni") vector_type = "avx2";
    for (const std::string_view base : {"avx512", "neon"})
      if (vector_type.starts_with(base)) vector_type = base;
    if (std::ranges::find(seen, vector_type) != seen.end()) continue;
    seen.push_back(vector_type);
    sets.push_back(set);
  }
  return sets;
}

/// What weights look like. Extremes are the largest magnitudes of the format, so that integer sums
/// are as large as they can be.
enum class Values { kRandom, kExtreme, kZero, kTiny, kLarge };
inline constexpr Values kAllValues[] = {Values::kRandom, Values::kExtreme, Values::kZero,
                                        Values::kTiny, Values::kLarge};

inline std::vector<float> random_floats(int64_t n, uint64_t seed, float scale = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

/// Whether heads of this size can have a KV cache of this format.
inline bool has_format(int64_t head_dim, DType dtype) {
  return kv_format_problem(dtype, head_dim).empty();
}

/// Zeroed bytes that begin on a cache line.
class AlignedBytes {
 public:
  explicit AlignedBytes(int64_t bytes) : lines_(static_cast<size_t>(div_up(bytes, 64))) {}
  std::byte* data() { return lines_.empty() ? nullptr : lines_.front().bytes; }
  const std::byte* data() const { return lines_.empty() ? nullptr : lines_.front().bytes; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
};

/// A weight matrix in file format with the values that it means.
struct TestMatrix {
  std::vector<std::byte> bytes;
  int64_t segment = 0;
  DType dtype = DType::kF32;
  reference::Matrix exact;  ///< [columns x k]

  MatrixSource source() const {
    return {.dtype = dtype,
            .columns = exact.rows(),
            .k = exact.cols(),
            .segment = segment,
            .rows = bytes.data()};
  }
};

/// Size of a value, about: what an element is multiplied with.
inline float magnitude(Values values) {
  switch (values) {
    case Values::kRandom:
      return 0.05f;
    case Values::kExtreme:
      return 1;
    case Values::kZero:
      return 0;
    case Values::kTiny:
      return 1e-6f;  // a subnormal half
    case Values::kLarge:
      return 100;
  }
  return 0;
}

/// One block (or one element) of a dtype at `out`.
inline void make_block(DType dtype, Values values, std::mt19937_64& random, std::byte* out) {
  std::normal_distribution<float> normal;
  const float x = magnitude(values) * normal(random);
  if (dtype == DType::kF32) {
    std::memcpy(out, &x, sizeof x);
    return;
  }
  const float scale = info(dtype).block_size > 1 ? x / 16 : x;
  const uint16_t half = dtype == DType::kBF16 ? f32_to_bf16(scale) : f32_to_f16(scale);
  std::memcpy(out, &half, sizeof half);
  // Extremes are bytes 0x80 (-128, or nibbles 0 and 8) and 0x7f (127, or nibbles 15 and 7).
  for (int64_t i = 2; i < info(dtype).block_bytes; ++i)
    out[i] = static_cast<std::byte>(values == Values::kExtreme ? 0x80 - random() % 2 : random());
  if (is_common(dtype)) return;
  std::memcpy(out, out + 2, sizeof half);  // where others may have quants
  set_block_scale(dtype, f16_to_f32(half), out);
}

inline TestMatrix make_matrix(DType dtype, int64_t columns, int64_t k, uint64_t seed,
                              Values values = Values::kRandom, int64_t segment = 0) {
  std::mt19937_64 random(seed);
  TestMatrix matrix{
      .bytes = std::vector<std::byte>(static_cast<size_t>(columns * row_bytes(dtype, k))),
      .segment = segment,
      .dtype = dtype,
      .exact = reference::Matrix(columns, k)};
  for (size_t i = 0; i < matrix.bytes.size(); i += static_cast<size_t>(info(dtype).block_bytes))
    make_block(dtype, values, random, &matrix.bytes[i]);
  matrix.exact = reference::dequantize(matrix.source());
  return matrix;
}

/// The largest |actual - exact| / tolerance (a matrix of the same shape), infinite where a value is
/// NaN, and where it is.
struct WorstElement {
  double ratio = 0;
  std::string message;
};
inline WorstElement worst_element(const reference::Matrix& actual, const reference::Matrix& exact,
                                  const reference::Matrix& tolerance) {
  WorstElement worst;
  for (int64_t t = 0; t < exact.rows(); ++t) {
    for (int64_t c = 0; c < exact.cols(); ++c) {
      const double error = std::abs(actual(t, c) - exact(t, c));
      const bool equal = actual(t, c) == exact(t, c);  // infinities too
      const double ratio = equal ? 0 : error / tolerance(t, c);
      if (ratio <= worst.ratio) continue;
      worst.ratio = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
      worst.message = fmt::format("worst element [{}, {}]: {} instead of {}, tolerance {}", t, c,
                                  actual(t, c), exact(t, c), tolerance(t, c));
    }
  }
  return worst;
}

/// Passes where every |actual - exact| <= tolerance; names the worst.
inline void check_near(const reference::Matrix& actual, const reference::Matrix& exact,
                       const reference::Matrix& tolerance) {
  const WorstElement worst = worst_element(actual, exact, tolerance);
  INFO(worst.message);
  CHECK(worst.ratio <= 1);
}

/// The same with one tolerance for all elements: `relative` times the largest exact magnitude.
inline void check_near(const std::vector<float>& actual, const reference::Matrix& exact,
                       double relative) {
  const double largest = std::max(exact.cwiseAbs().maxCoeff(), 1e-30);
  check_near(reference::from_floats(actual.data(), exact.rows(), exact.cols()), exact,
             reference::Matrix::Constant(exact.rows(), exact.cols(), relative * largest));
}

/// Elements whose bits differ.
inline int64_t differing(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return -1;
  int64_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += float_bits(a[i]) != float_bits(b[i]);
  return count;
}

inline bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace tandem
