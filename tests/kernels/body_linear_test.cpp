#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <span>

#include "kernels/activation.h"
#include "test_data.h"

using namespace tandem;
using reference::Matrix;

namespace tandem::amx_emulated {
extern const KernelSet kKernels;
}

namespace {

/// Those that this CPU runs, and the tiles' kernels with emulated tiles; not where the CPU is
/// emulated itself.
std::vector<const KernelSet*> tested_sets() {
  std::vector<const KernelSet*> sets(kernel_sets().begin(), kernel_sets().end());
  if (std::getenv("TANDEM_TEST_LAUNCHER") == nullptr) sets.push_back(&amx_emulated::kKernels);
  return sets;
}

/// A matrix of whole panels and prepared inputs, ready for KernelSet::linear.
struct LinearProblem {
  LinearProblem(const KernelSet& set, const TestMatrix& weights, const std::vector<float>& x)
      : k(weights.exact.cols()),
        dtype(weights.dtype),
        format(set.format(weights.dtype)),
        panel_stride(panel_bytes(weights.dtype, k)),
        row_stride(activation_row_bytes(format, k)),
        panels(weights.exact.rows() / 16 * panel_stride),
        rows(static_cast<int64_t>(x.size()) / k * row_stride) {
    for (int64_t p = 0; p < weights.exact.rows() / 16; ++p) {
      std::array<const std::byte*, 16> columns;
      for (int64_t c = 0; c < 16; ++c)
        columns[static_cast<size_t>(c)] = weights.bytes.data() + (16 * p + c) * row_bytes(dtype, k);
      pack_panel(dtype, columns.data(), k, panels.data() + p * panel_stride);
    }
    for (int64_t t = 0; t * k < static_cast<int64_t>(x.size()); ++t)
      set.prepare(format, x.data() + t * k, k, rows.data() + t * row_stride);
  }

  /// Dot products of panels [first, first + count) with tokens [token, token + tokens).
  std::vector<float> multiply(const KernelSet& set, Range panel_range, Range tokens,
                              AskAhead ask_ahead = AskAhead::kOnce) const {
    std::vector<float> y(static_cast<size_t>(tokens.size() * panel_range.size() * 16), -1);
    set.linear(
        {.dtype = dtype,
         .panels = panels.data() + panel_range.begin * panel_stride,
         .num_panels = panel_range.size(),
         .k = k,
         .x = {.base = rows.data() + tokens.begin * row_stride, .row_bytes = row_stride, .k = k},
         .tokens = tokens.size(),
         .y = y.data(),
         .y_stride = panel_range.size() * 16,
         .ask_ahead = ask_ahead});
    return y;
  }

  /// What the prepared rows mean: the kernel's true input.
  Matrix prepared(int64_t tokens) const {
    Matrix x(tokens, k);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < k; ++i) x(t, i) = prepared_element(t, i);
    return x;
  }
  double prepared_element(int64_t t, int64_t i) const {
    const std::byte* row = rows.data() + t * row_stride;
    if (format == ActivationFormat::kF32) return reinterpret_cast<const float*>(row)[i];
    if (format == ActivationFormat::kBF16)
      return bf16_to_f32(reinterpret_cast<const uint16_t*>(row)[i]);
    const Q8Row q8 = q8_row(const_cast<std::byte*>(row), k);
    return double{q8.scale[i / 32]} * q8.q[i];
  }

  int64_t k;
  DType dtype;
  ActivationFormat format;
  int64_t panel_stride, row_stride;
  AlignedBytes panels, rows;
};

std::vector<int64_t> lengths(DType dtype) {
  if (info(dtype).block_size == 256) return {256, 512, 2048};
  if (info(dtype).block_size > 1) return {32, 64, 96, 256, 2048};
  return {1, 2, 17, 32, 77, 256, 301, 2048};
}

/// Rounding of k float additions: a random walk of steps u |x| |w|, with room for bad luck.
Matrix rounding(const Matrix& x, const Matrix& w) {
  const double c = 4 * std::sqrt(static_cast<double>(x.cols())) + 8;
  // FTZ of BF16 dot products adds at most the smallest normal number per product.
  const double tiny = 0x1p-126 * static_cast<double>(x.cols());
  return (c * kUnitRoundoff * x.rowwise().norm() * w.rowwise().norm().transpose()).array() + tiny;
}

/// Each of these numbers of tokens, by every kernel set, against one product of the reference.
void check_linear(DType dtype, int64_t panels, int64_t k, std::span<const int64_t> token_counts,
                  Values values) {
  CAPTURE(name(dtype));
  CAPTURE(k);
  CAPTURE(static_cast<int>(values));
  const TestMatrix weights = make_matrix(dtype, 16 * panels, k, 100 + k, values);
  const int64_t most = token_counts.back();
  const std::vector<float> inputs = random_floats(most * k, 5 + k);
  for (const KernelSet* set : tested_sets()) {
    if (set == &amx_emulated::kKernels && k > 512) continue;  // slow
    CAPTURE(set->name);
    const LinearProblem problem(*set, weights, inputs);
    const Matrix x = problem.prepared(most);
    const Matrix exact = reference::linear(x, weights.exact);
    const Matrix tolerance = rounding(x, weights.exact);
    for (const int64_t tokens : token_counts) {
      CAPTURE(tokens);
      const int64_t used = 1 + tokens % panels;
      const std::vector<float> y = problem.multiply(*set, {0, used}, {0, tokens});
      check_near(reference::from_floats(y.data(), tokens, 16 * used),
                 exact.topLeftCorner(tokens, 16 * used),
                 tolerance.topLeftCorner(tokens, 16 * used));
    }
  }
}

}  // namespace

TEST_CASE("dot products of all dtypes, lengths, panels and tokens are the reference's") {
  // Every block of tokens, and what is left beside it.
  constexpr std::array<int64_t, 12> kTokens = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 33, 63};
  for (const DTypeInfo& d : kDTypes)
    for (const int64_t k : lengths(d.dtype)) check_linear(d.dtype, 5, k, kTokens, Values::kRandom);
}

TEST_CASE("dot products of extreme, zero, tiny and large weights are the reference's") {
  constexpr std::array<int64_t, 3> kTokens = {1, 3, 16};
  for (const DTypeInfo& d : kDTypes)
    for (const Values values : kAllValues) check_linear(d.dtype, 4, 256, kTokens, values);
}

TEST_CASE("integer sums do not overflow where every product has the largest magnitude") {
  // All inputs at +1 or -1 become quants +127 or -127, against weights of -128 and nibbles 0
  // and 15 in either half of a byte. Scales and minimums (Q4_K) are the same bytes, so of 0xff the
  // largest; factors are those of Values::kExtreme.
  struct Case {
    DType dtype;
    size_t factor_bytes;
    uint8_t byte;
  };
  std::vector<Case> cases = {{DType::kQ8_0, 2, 0x80}};
  for (const uint8_t byte : {0x0f, 0xf0, 0xff}) {
    cases.push_back({DType::kQ4_0, 2, byte});
    cases.push_back({DType::kQ4_1, 4, byte});
    cases.push_back({DType::kQ4_K, 4, byte});
  }
  for (const KernelSet* set : tested_sets()) {
    for (const auto& [dtype, factor_bytes, byte] : cases) {
      CAPTURE(set->name);
      CAPTURE(name(dtype));
      CAPTURE(int{byte});
      constexpr int64_t k = 256;
      TestMatrix weights = make_matrix(dtype, 16, k, 3, Values::kExtreme);
      for (size_t i = 0; i < weights.bytes.size(); ++i)
        if (i % static_cast<size_t>(info(dtype).block_bytes) >= factor_bytes)
          weights.bytes[i] = std::byte{byte};
      weights.exact = reference::dequantize(weights.source());
      std::vector<float> x(2 * k, 1.0f);
      std::fill(x.begin() + k, x.end(), -1.0f);
      const LinearProblem problem(*set, weights, x);
      const Matrix prepared = problem.prepared(2);
      const Matrix expected = reference::linear(prepared, weights.exact);
      const Matrix error = rounding(prepared, weights.exact);
      check_near(reference::from_floats(problem.multiply(*set, {0, 1}, {0, 2}).data(), 2, 16),
                 expected, error);
      for (int64_t t = 0; t < 2; ++t)
        check_near(reference::from_floats(problem.multiply(*set, {0, 1}, {t, t + 1}).data(), 1, 16),
                   expected.row(t), error.row(t));
    }
  }
}

TEST_CASE("a token's result is the same bits whichever tokens and panels share the tile") {
  for (const KernelSet* set : tested_sets()) {
    for (const DTypeInfo& d : kDTypes) {
      CAPTURE(set->name);
      CAPTURE(d.name);
      constexpr int64_t kPanels = 5;
      const int64_t length = round_up(288, d.block_size);
      const TestMatrix weights = make_matrix(d.dtype, 16 * kPanels, length, 21);
      const int64_t most = set->tokens_at_once;
      const LinearProblem problem(*set, weights, random_floats(most * length, 22));
      const std::vector<float> whole = problem.multiply(*set, {0, kPanels}, {0, most});
      int64_t wrong = 0;
      for (int64_t tokens = 1; tokens <= most; tokens += tokens < 17 ? 1 : 15)
        for (const int64_t token : {int64_t{0}, most - tokens})  // the first of the tile, the last
          for (Range panels : {Range{0, 5}, Range{1, 5}, Range{0, 4}, Range{3, 4}}) {
            const auto part = problem.multiply(*set, panels, {token, token + tokens});
            for (int64_t t = 0; t < tokens; ++t)
              wrong += std::memcmp(
                           &part[static_cast<size_t>(t * panels.size() * 16)],
                           &whole[static_cast<size_t>(((token + t) * kPanels + panels.begin) * 16)],
                           static_cast<size_t>(panels.size() * 64)) != 0;
          }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a row is the same bits whether its weights are asked for ahead, long rows too") {
  constexpr int64_t kPanels = 5, kLong = 17 * 256;  // four panels at once, and one
  for (const KernelSet* set : kernel_sets())
    for (const DTypeInfo& d : kDTypes)
      for (const int64_t k : {int64_t{512}, kLong}) {
        CAPTURE(set->name);
        CAPTURE(d.name);
        CAPTURE(k);
        const TestMatrix weights = make_matrix(d.dtype, 16 * kPanels, k, 23);
        const LinearProblem problem(*set, weights, random_floats(k, 24));
        const auto once = problem.multiply(*set, {0, kPanels}, {0, 1}, AskAhead::kOnce);
        CHECK(once == problem.multiply(*set, {0, kPanels}, {0, 1}, AskAhead::kNever));
        CHECK(once == problem.multiply(*set, {0, kPanels}, {0, 1}, AskAhead::kTwice));
      }
}

TEST_CASE("NEON's kernel sets give the same bits for quants of every format") {
  // They differ in how integers are multiplied alone: sums of those are exact.
  std::vector<const KernelSet*> sets;
  for (const KernelSet* set : kernel_sets())
    if (set->name.starts_with("neon")) sets.push_back(set);
  if (sets.size() < 2) {
    MESSAGE("fewer than two kernel sets of NEON here: nothing to compare");
    return;
  }
  for (const DTypeInfo& d : kDTypes) {
    if (sets.front()->format(d.dtype) != ActivationFormat::kQ8) continue;
    const int64_t k = round_up(288, d.block_size);
    for (const Values values : {Values::kRandom, Values::kExtreme}) {
      const TestMatrix weights = make_matrix(d.dtype, 32, k, 61, values);
      const std::vector<float> x = random_floats(kTileTokens * k, 62);
      const LinearProblem problem(*sets.front(), weights, x);
      for (int64_t tokens = 1; tokens <= kTileTokens; ++tokens) {
        const std::vector<float> best = problem.multiply(*sets.front(), {0, 2}, {0, tokens});
        for (const KernelSet* set : sets) {
          CAPTURE(set->name);
          CAPTURE(d.name);
          CAPTURE(tokens);
          CHECK(differing(problem.multiply(*set, {0, 2}, {0, tokens}), best) == 0);
        }
      }
    }
  }
}

TEST_CASE("rows stay between the columns of a wider output") {
  const KernelSet& set = *kernel_sets().front();
  const TestMatrix weights = make_matrix(DType::kF32, 16, 8, 31);
  const LinearProblem problem(set, weights, random_floats(2 * 8, 32));
  std::vector<float> y(2 * 20, 7);
  set.linear({.dtype = DType::kF32,
              .panels = problem.panels.data(),
              .num_panels = 1,
              .k = 8,
              .x = {.base = problem.rows.data(), .row_bytes = problem.row_stride, .k = 8},
              .tokens = 2,
              .y = y.data(),
              .y_stride = 20});
  for (const size_t i : {16, 17, 18, 19, 36, 37, 38, 39}) CHECK(y[i] == 7);
}

TEST_CASE("quantised inputs are within half a step, and their sums are exact") {
  for (const KernelSet* set : tested_sets()) {
    CAPTURE(set->name);
    constexpr int64_t kLength = 320;
    std::vector<float> x = random_floats(kLength, 41);
    for (int i = 0; i < 32; ++i) x[32 + i] = 0;        // a zero block
    for (int i = 0; i < 32; ++i) x[64 + i] *= 1e-30f;  // a tiny one
    for (int i = 0; i < 32; ++i) x[96 + i] *= 1e30f;   // a large one
    for (int i = 0; i < 32; ++i) x[128 + i] = i == 5 ? -3.0f : 3.0f;
    AlignedBytes row(activation_row_bytes(ActivationFormat::kQ8, kLength));
    set->prepare(ActivationFormat::kQ8, x.data(), kLength, row.data());
    const Q8Row q8 = q8_row(row.data(), kLength);
    int wrong = 0;
    for (int64_t b = 0; b < kLength / 32; ++b) {
      int sum = 0, first_sum = 0;
      for (int64_t i = 32 * b; i < 32 * b + 32; ++i) {
        sum += q8.q[i];
        if (i < 32 * b + 16) first_sum += q8.q[i];
        const double error = std::abs(double{q8.scale[b]} * q8.q[i] - double{x[i]});
        wrong += error > 0.5001 * double{q8.scale[b]};
      }
      wrong += first_sum != q8.sums[b].first || sum - first_sum != q8.sums[b].last;
      wrong += q8.scale[b] * static_cast<float>(sum) != q8.scaled_sum[b];
    }
    CHECK(wrong == 0);
    CHECK(q8.q[128] == 127);
    CHECK(q8.q[133] == -127);
  }
}

TEST_CASE("an input too small to have an inverse is as good as zero") {
  for (const KernelSet* set : tested_sets()) {
    CAPTURE(set->name);
    const std::vector<float> x = random_floats(64, 43, 1e-39f);
    const TestMatrix weights = make_matrix(DType::kQ8_0, 16, 64, 44);
    const std::vector<float> y = LinearProblem(*set, weights, x).multiply(*set, {0, 1}, {0, 1});
    for (const float value : y) CHECK(std::abs(value) < 1e-30f);
  }
}

TEST_CASE("inputs for BF16 dot products are rounded to nearest") {
  for (const KernelSet* set : tested_sets()) {
    CAPTURE(set->name);
    const std::vector<float> x = random_floats(77, 51);
    AlignedBytes row(activation_row_bytes(ActivationFormat::kBF16, 77));
    set->prepare(ActivationFormat::kBF16, x.data(), 77, row.data());
    const auto* out = reinterpret_cast<const uint16_t*>(row.data());
    int wrong = 0;
    for (size_t i = 0; i < 77; ++i) wrong += out[i] != f32_to_bf16(x[i]);
    CHECK(wrong == 0);
    CHECK(out[77] == 0);  // the pad of the last pair
  }
}

TEST_CASE("emulated tiles add BF16 products as the hardware does, bit for bit") {
  const auto sets = kernel_sets();
  const auto amx = std::ranges::find(sets, "amx", &KernelSet::name);
  if (amx == sets.end()) {
    MESSAGE("this CPU has no tiles: their emulation is not compared with them");
    return;
  }
  for (const int64_t k : {1, 31, 32, 77, 301, 2048})
    for (const float scale : {1.0f, 1e-19f, 1e19f}) {  // products of denormal and of infinite size
      CAPTURE(k);
      CAPTURE(scale);
      const TestMatrix weights = make_matrix(DType::kBF16, 16 * 6, k, 61);
      const std::vector<float> x = random_floats(kMostTokensAtOnce * k, 62, scale * scale);
      const LinearProblem problem(**amx, weights, x);
      for (const int64_t tokens : {1, 5, 16, 33, 64}) {
        const auto y = problem.multiply(**amx, {0, 6}, {0, tokens});
        const auto emulated = problem.multiply(amx_emulated::kKernels, {0, 6}, {0, tokens});
        CHECK(std::memcmp(y.data(), emulated.data(), 4 * y.size()) == 0);
      }
    }
}
