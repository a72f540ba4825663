#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "test_device.h"

using namespace tandem;
using reference::Matrix;

namespace {

using Shape = AttentionShape;

struct CpuProblem : AttentionProblem {
  using AttentionProblem::AttentionProblem;
  explicit CpuProblem(AttentionProblem problem) : AttentionProblem(std::move(problem)) {}

  /// A cache of `positions`, filled as far as there are any.
  TestKv cache(Device& device, DType dtype, Range positions) const {
    TestKv kv(device, dtype, {0, s.kv_heads}, positions, s.head_dim);
    fill_cache(kv, positions);
    return kv;
  }
  TestKv step(Device& device, DType dtype) const {
    TestKv kv(device, dtype, {0, s.kv_heads}, step_positions(), s.head_dim);
    fill_step(kv);
    return kv;
  }

  AttentionArgs args(const TestKv& cache, const TestKv& step, Range context) const {
    return {.tokens = s.tokens,
            .parents = tree(),
            .past = s.past,
            .kv_heads = {0, s.kv_heads},
            .group = s.group,
            .head_dim = s.head_dim,
            .scale = scale(),
            .q = q.data(),
            .q_stride = q_stride(),
            .cache = cache.view(),
            .context = context,
            .include_new = true,
            .step = step.view()};
  }

  /// The output of all heads, computed as one part.
  std::vector<float> whole(Device& device, DType dtype) const {
    const TestKv kv = cache(device, dtype, {0, round_up(s.past + 1, 256)});
    const TestKv fresh = step(device, dtype);
    std::vector<float> out(static_cast<size_t>(s.tokens * q_stride()), 7);
    AttentionArgs part = args(kv, fresh, {0, s.past});
    part.out = out.data();
    device.attention(part);
    return out;
  }
};

/// Tokens whose result in the step differs from the one they have when decoded one after another.
int64_t unlike_sequential(const CpuProblem& problem, const TestUnit& unit, DType dtype) {
  const std::vector<float> together = problem.whole(*unit, dtype);
  int64_t wrong = 0;
  for (int64_t t = 0; t < problem.s.tokens; ++t) {
    const std::vector<float> alone = CpuProblem(problem.alone(t)).whole(*unit, dtype);
    wrong += !std::equal(alone.begin(), alone.end(), together.begin() + t * problem.q_stride());
  }
  return wrong;
}

/// Outputs are means of values of about 1: rounding of up to 1024 terms and of their exponentials.
constexpr double kTolerance = 2e-5;

}  // namespace

TEST_CASE("a unit's attention is the reference's, near and far into the context") {
  const Shape shapes[] = {{1, 0},
                          {1, 1},
                          {1, 255},
                          {1, 256},
                          {1, 700},
                          {5, 250},
                          {17, 300},
                          {40, 0},
                          {3, 1024},
                          {300, 20, 16, 1},
                          {2, 60, 20},
                          {18, 40, 80},
                          {1, 600, 128, 3, 1}};
  for (const KernelSet* set : attention_sets()) {
    const TestUnit unit(*set, 2);
    for (const Shape& shape : shapes) {
      for (const DType dtype : kKvFormats) {
        if (!has_format(shape.head_dim, dtype)) continue;
        CAPTURE(set->name);
        CAPTURE(name(dtype));
        CAPTURE(shape.tokens);
        CAPTURE(shape.past);
        CAPTURE(shape.head_dim);
        const CpuProblem problem(shape);
        check_near(problem.whole(*unit, dtype), problem.kept(dtype).exact(), kTolerance);
      }
    }
  }
}

TEST_CASE("a tree's tokens see their ancestors and no siblings") {
  for (const KernelSet* set : attention_sets()) {
    const TestUnit unit(*set, 2);
    for (const int64_t past : {0, 5, 250, 300}) {
      const CpuProblem problem({8, past}, {-1, -1, 0, 0, 2, 3, 1, 6});
      for (const DType dtype : kKvFormats) {
        CAPTURE(set->name);
        CAPTURE(name(dtype));
        CAPTURE(past);
        check_near(problem.whole(*unit, dtype), problem.kept(dtype).exact(), kTolerance);
      }
    }
  }
}

TEST_CASE("tokens of a chain and of a tree are the same bits as decoded one after another") {
  // Steps that cross a panel (16 positions), a chunk (256), and are more than a tile of tokens.
  for (const KernelSet* set : attention_sets()) {
    const TestUnit unit(*set, 2);
    std::vector<int32_t> wide{-1};  // a binary tree of 20 tokens
    for (int32_t t = 1; t < 20; ++t) wide.push_back((t - 1) / 2);
    for (const int64_t past : {0, 13, 250}) {
      const std::vector<int32_t> tree{-1, 0, 0, 1, 2, 2, 3, 4, 6, 6, 8, 10};
      for (const CpuProblem& problem : {CpuProblem({12, past}), CpuProblem({37, past}),
                                        CpuProblem({12, past}, tree), CpuProblem({20, past}, wide)})
        for (const DType dtype : kKvFormats) {
          // Where rows lie is all that depends on the format.
          const bool few = problem.s.tokens == 12 && problem.tree() != nullptr;
          if (dtype != DType::kF16 && !few) continue;
          CAPTURE(set->name);
          CAPTURE(name(dtype));
          CAPTURE(past);
          CAPTURE(problem.s.tokens);
          CHECK(unlike_sequential(problem, unit, dtype) == 0);
        }
    }
  }
}

TEST_CASE("attention is the same bits for teams of one, two and three") {
  for (const KernelSet* set : attention_sets()) {
    CAPTURE(set->name);
    for (const int64_t tokens : {1, 6, 40}) {
      CAPTURE(tokens);
      const CpuProblem problem({tokens, 700});
      std::optional<std::vector<float>> expected;
      for (const int workers : {1, 2, 3}) {
        const TestUnit unit(*set, workers);
        const std::vector<float> out = problem.whole(*unit, DType::kF16);
        if (expected) CHECK(differing(out, *expected) == 0);
        expected = out;
      }
    }
  }
}

TEST_CASE("a head is the same bits computed alone, and the others are left as they were") {
  for (const KernelSet* set : attention_sets()) {
    CAPTURE(set->name);
    const TestUnit unit(*set, 2);
    for (const int64_t tokens : {2, 20}) {
      const CpuProblem problem({tokens, 300, 20});
      const std::vector<float> whole = problem.whole(*unit, DType::kF16);
      const TestKv cache = problem.cache(*unit, DType::kF16, {0, 512});
      const TestKv step = problem.step(*unit, DType::kF16);
      std::vector<float> out(whole.size(), 7);
      AttentionArgs part = problem.args(cache, step, {0, 300});
      part.kv_heads = {1, 2};
      part.out = out.data();
      unit->attention(part);
      int64_t wrong = 0;
      for (size_t i = 0; i < out.size(); ++i) {
        const bool of_head_1 = static_cast<int64_t>(i) % problem.q_stride() >= 3 * 20;
        wrong += out[i] != (of_head_1 ? whole[i] : 7);
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a head cut by positions merges to the reference's") {
  for (const KernelSet* set : attention_sets()) {
    const TestUnit unit(*set, 2);
    for (const auto& [tokens, dtype] : {std::pair<int64_t, DType>{1, DType::kF16},
                                        {7, DType::kQ8_0},
                                        {33, DType::kBF16},
                                        {1, DType::kQ8_0},
                                        {33, DType::kQ8_0}}) {
      CAPTURE(name(dtype));
      CAPTURE(set->name);
      CAPTURE(tokens);
      const CpuProblem problem({tokens, 700});
      // Homes [0, 256) and [256, 1024), the second without the new tokens, and the new ones alone.
      const TestKv low = problem.cache(*unit, dtype, {0, 256});
      const TestKv high = problem.cache(*unit, dtype, {256, 1024});
      const TestKv step = problem.step(*unit, dtype);
      std::vector<AttentionArgs> parts{problem.args(low, step, {0, 256}),
                                       problem.args(high, step, {256, 700}),
                                       problem.args(low, step, {})};
      parts[0].include_new = parts[1].include_new = false;
      std::vector<std::vector<float>> states;
      std::vector<const float*> ascending;
      for (AttentionArgs& part : parts) {
        states.emplace_back(static_cast<size_t>(tokens * problem.state_stride()));
        part.state = states.back().data();
        unit->attention(part);
        ascending.push_back(states.back().data());
      }
      std::vector<float> out(static_cast<size_t>(tokens * problem.q_stride()));
      unit->merge({.tokens = tokens,
                   .kv_heads = {0, 2},
                   .group = 3,
                   .head_dim = 64,
                   .states = ascending,
                   .out = out.data(),
                   .q_stride = problem.q_stride()});
      check_near(out, problem.kept(dtype).exact(), kTolerance);
    }
  }
}

TEST_CASE("a CPU unit's state of no positions is empty") {
  for (const KernelSet* set : attention_sets()) {
    const TestUnit unit(*set, 2);
    for (const int64_t tokens : {2, 20}) {
      const CpuProblem problem({tokens, 300});
      const TestKv cache = problem.cache(*unit, DType::kF16, {512, 1024});
      const TestKv step = problem.step(*unit, DType::kF16);
      AttentionArgs part = problem.args(cache, step, {512, 1024});
      part.include_new = false;
      std::vector<float> state(static_cast<size_t>(tokens * problem.state_stride()), 7);
      part.state = state.data();
      unit->attention(part);
      int64_t wrong = 0;
      for (size_t i = 0; i < state.size(); ++i)
        wrong += state[i] != (i % 66 == 64 ? -std::numeric_limits<float>::infinity() : 0);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("chosen rows of a step are appended at their positions, other homes' are skipped") {
  const TestUnit unit(*kernel_sets().front(), 2);
  for (const DType dtype : kKvFormats) {
    CAPTURE(name(dtype));
    const int64_t d = has_format(20, dtype) ? 20 : 32;
    const CpuProblem problem({8, 509, d});
    const AttentionProblem kept = problem.kept(dtype);
    const TestKv step = problem.step(*unit, dtype);
    const TestKv cache = problem.cache(*unit, dtype, {256, 512});
    const std::vector<int32_t> rows{0, 2, 5,
                                    6};  // positions 509, 510, 511 and 512, which is not here
    const CommitCache to{step.view(), cache.view()};
    unit->commit({.caches = {&to, 1}, .rows = rows, .first_position = 509});
    int wrong = 0;
    for (int64_t position = 256; position < 512; ++position) {
      for (int64_t c = 0; c < 2 * d; ++c) {
        const bool old = position < 509;
        const int64_t row = old ? position : rows[static_cast<size_t>(position - 509)];
        const Matrix& keys = old ? kept.cached_keys : kept.new_keys;
        const Matrix& values = old ? kept.cached_values : kept.new_values;
        wrong += cache.key(c / d, position - 256, c % d) != keys(row, c);
        wrong += cache.value(c / d, position - 256, c % d) != values(row, c);
      }
    }
    CHECK(wrong == 0);
  }
}
