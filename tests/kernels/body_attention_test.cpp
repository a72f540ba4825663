#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "test_data.h"

using namespace tandem;
using reference::Matrix;
using reference::SoftmaxState;

namespace {

/// Keys and values of positions [begin, end) of a chunk in the kernels' layout. Lanes of a key
/// panel that belong to other positions hold NaN: nobody may let them in.
struct Run {
  Run(DType dtype_of_kv, Range positions_of_run, int64_t head_dim, uint64_t seed)
      : dtype(dtype_of_kv),
        positions(positions_of_run),
        key_rows(key_layout(dtype, head_dim)),
        value_rows(value_layout(dtype, head_dim)),
        keys(positions.size(), head_dim),
        values(positions.size(), head_dim),
        k(round_up(positions.size() + 16, 16) * kv_row_bytes(key_rows)),
        v(round_up(positions.size() + 16, 16) * kv_row_bytes(value_rows)) {
    const int64_t rows = round_up(positions.size() + 16, 16);
    std::memset(k.data(), 0xff, static_cast<size_t>(rows * kv_row_bytes(key_rows)));
    std::memset(v.data(), 0xff, static_cast<size_t>(rows * kv_row_bytes(value_rows)));
    for (int64_t i = 0; i < positions.size(); ++i) {
      const auto row = static_cast<uint64_t>(1000 * seed) + static_cast<uint64_t>(2 * i);
      keys.row(i) = put(key_rows, k.data(), i, random_floats(head_dim, row));
      values.row(i) = put(value_rows, v.data(), i, random_floats(head_dim, row + 1));
    }
  }

  /// Stores position i of the run and returns what was stored.
  Matrix put(const KvLayout& layout, std::byte* head, int64_t i,
             const std::vector<float>& x) const {
    const auto n = static_cast<int64_t>(x.size());
    const KvRow to = kv_row(layout, head, positions.begin % 16 + i);
    store_kv_row(*kernel_sets().back(), dtype, x.data(), n, layout, to);
    return reference::kv_rounded(dtype, reference::from_floats(x.data(), 1, n));
  }

  KvRun view() const {
    return {.k = k.data(), .v = v.data(), .begin = positions.begin, .end = positions.end};
  }

  DType dtype;
  Range positions;
  KvLayout key_rows, value_rows;
  Matrix keys, values;
  AlignedBytes k, v;
};

/// What a run keeps, in f32.
Run in_f32(const Run& run) {
  Run copy(DType::kF32, run.positions, run.keys.cols(), 0);
  const auto put = [&](const KvLayout& layout, AlignedBytes& bytes, const Matrix& rows, int64_t i) {
    const Eigen::RowVectorXf row = rows.row(i).cast<float>();
    copy.put(layout, bytes.data(), i, {row.data(), row.data() + row.size()});
  };
  for (int64_t i = 0; i < run.positions.size(); ++i) {
    put(copy.key_rows, copy.k, run.keys, i);
    put(copy.value_rows, copy.v, run.values, i);
  }
  return copy;
}

std::vector<float> empty_state(int64_t head_dim) {
  std::vector<float> state(static_cast<size_t>(head_dim + 2));
  state[static_cast<size_t>(head_dim)] = -std::numeric_limits<float>::infinity();
  return state;
}

/// A state with some history: o, m around 0, l around 2.
std::vector<float> some_state(int64_t head_dim, uint64_t seed) {
  std::vector<float> state = random_floats(head_dim + 2, seed);
  state.back() = 2 + std::abs(state.back());
  return state;
}

SoftmaxState exact(const std::vector<float>& state) {
  const auto head_dim = static_cast<int64_t>(state.size()) - 2;
  return {reference::from_floats(state.data(), 1, head_dim),
          Matrix::Constant(1, 1, state[static_cast<size_t>(head_dim)]),
          Matrix::Constant(1, 1, state.back())};
}

/// One call of KernelSet::attention. States of odd rows have some history.
struct AttentionTileProblem {
  const Run& cached;
  const Run& fresh;
  int64_t head_dim;
  std::vector<float> q;               ///< [16 x head_dim]
  std::array<int32_t, 16> visible{};  ///< new positions that a row sees

  AttentionTileProblem(const Run& cached_run, const Run& fresh_run, int64_t d)
      : cached(cached_run), fresh(fresh_run), head_dim(d), q(random_floats(16 * d, 77)) {
    for (int32_t r = 0; r < 16; ++r)
      visible[static_cast<size_t>(r)] =
          (r + 1) % (static_cast<int32_t>(fresh.positions.size()) + 1);
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }
  std::vector<float> before(int64_t row) const {
    return row % 2 == 0 ? empty_state(head_dim) : some_state(head_dim, static_cast<uint64_t>(row));
  }

  std::vector<std::vector<float>> run(const KernelSet& set, Range rows) const {
    std::vector<std::vector<float>> states;
    std::vector<const float*> queries;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      states.push_back(before(r));
      queries.push_back(&q[static_cast<size_t>(r * head_dim)]);
    }
    std::vector<float*> pointers;
    for (std::vector<float>& state : states) pointers.push_back(state.data());
    AlignedBytes scratch(kAttentionScratchFloats * 4);
    set.attention({.kv_dtype = cached.dtype,
                   .head_dim = head_dim,
                   .scale = scale(),
                   .q = queries.data(),
                   .rows = rows.size(),
                   .cached = cached.view(),
                   .fresh = fresh.view(),
                   .visible_new = visible.data() + rows.begin,
                   .scratch = reinterpret_cast<float*>(scratch.data()),
                   .state = pointers.data()});
    return states;
  }

  SoftmaxState expected(int64_t row) const {
    const int64_t seen = visible[static_cast<size_t>(row)], past = cached.positions.size();
    Matrix keys(past + seen, head_dim), values(past + seen, head_dim);
    keys << cached.keys, fresh.keys.topRows(seen);
    values << cached.values, fresh.values.topRows(seen);
    const Matrix query =
        reference::from_floats(&q[static_cast<size_t>(row * head_dim)], 1, head_dim);
    const SoftmaxState chunk = reference::attention({.q = query,
                                                     .cached_keys = keys,
                                                     .cached_values = values,
                                                     .new_keys = keys,
                                                     .new_values = values,
                                                     .context = {0, past + seen},
                                                     .include_new = false,
                                                     .head_dim = head_dim,
                                                     .scale = scale()});
    return reference::merge(exact(before(row)), chunk);
  }

  /// Relative error of a weight: rounding of its score (a dot product of head_dim terms, then a
  /// difference and an exponential), and of the sums over all positions.
  double rounding() const {
    const double d = static_cast<double>(head_dim);
    double longest = 1;  // the history's m is about 1
    for (const Run* run : {&cached, &fresh})
      if (run->keys.rows() > 0) longest = std::max(longest, run->keys.rowwise().norm().maxCoeff());
    const double score =
        longest * reference::from_floats(q.data(), 16, head_dim).rowwise().norm().maxCoeff() *
        scale();
    const auto n = static_cast<double>(cached.positions.size() + fresh.positions.size());
    return kUnitRoundoff * (16 + 4 * std::sqrt(n) + (2 * std::sqrt(d) + 8) * score);
  }
};

void check_state(const std::vector<float>& state, const SoftmaxState& expected, double relative) {
  const double l = expected.l(0, 0), m = expected.m(0, 0);
  const double largest_value = 6;  // of about 10^4 normal ones, and of the history
  const auto tolerance = [](double t, int64_t n) { return Matrix::Constant(1, n, t); };
  const SoftmaxState actual = exact(state);
  check_near(actual.m, expected.m, tolerance(relative * std::max(1.0, std::abs(m)), 1));
  check_near(actual.l, expected.l, tolerance(relative * l, 1));
  check_near(actual.o, expected.o, tolerance(relative * l * largest_value, expected.o.cols()));
}

void check_tiles(const KernelSet& set, const AttentionTileProblem& problem) {
  for (const int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16}) {
    CAPTURE(rows);
    const auto states = problem.run(set, {0, rows});
    for (int64_t r = 0; r < rows; ++r) {
      CAPTURE(r);
      check_state(states[static_cast<size_t>(r)], problem.expected(r), problem.rounding());
    }
  }
}

/// Cached and new positions: of one panel, sharing a panel, filling the chunk, either one alone.
constexpr std::array<std::array<Range, 2>, 8> kRuns{{{{{0, 0}, {0, 1}}},
                                                     {{{0, 256}, {0, 0}}},
                                                     {{{0, 40}, {40, 43}}},
                                                     {{{0, 0}, {37, 53}}},
                                                     {{{0, 16}, {16, 32}}},
                                                     {{{0, 250}, {250, 256}}},
                                                     {{{0, 1}, {1, 2}}},
                                                     {{{0, 0}, {0, 256}}}}};

}  // namespace

TEST_CASE("a tile of attention is the reference's for all cached and new positions") {
  for (const KernelSet* set : attention_sets()) {
    for (const DType dtype : {DType::kF16, DType::kF32}) {
      for (const int64_t head_dim : {16, 20, 64, 80, 128}) {
        for (const auto& [cached_positions, new_positions] : kRuns) {
          CAPTURE(set->name);
          CAPTURE(name(dtype));
          CAPTURE(head_dim);
          CAPTURE(cached_positions.end);
          CAPTURE(new_positions.end);
          const Run cached(dtype, cached_positions, head_dim, 1);
          const Run fresh(dtype, new_positions, head_dim, 2);
          check_tiles(*set, AttentionTileProblem(cached, fresh, head_dim));
        }
      }
    }
  }
}

TEST_CASE("a row's state is the same bits whichever rows share its tile") {
  for (const KernelSet* set : attention_sets()) {
    for (const DType dtype : kKvFormats) {
      CAPTURE(set->name);
      CAPTURE(name(dtype));
      const int64_t head_dim = has_format(80, dtype) ? 80 : 96;
      const Run cached(dtype, {0, 100}, head_dim, 3), fresh(dtype, {100, 116}, head_dim, 4);
      const AttentionTileProblem problem(cached, fresh, head_dim);
      const auto whole = problem.run(*set, {0, 16});
      int64_t wrong = 0;
      for (int64_t begin = 0; begin < 16; ++begin)
        for (int64_t end = begin + 1; end <= 16; ++end) {
          const auto part = problem.run(*set, {begin, end});
          for (int64_t r = begin; r < end; ++r)
            wrong += differing(part[static_cast<size_t>(r - begin)], whole[static_cast<size_t>(r)]);
        }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("in every KV format attention has the bits that it has over the same values in f32") {
  for (const KernelSet* set : attention_sets()) {
    for (const DType dtype : kKvFormats) {
      for (const int64_t head_dim : {32, 64, 96, 128}) {
        CAPTURE(set->name);
        CAPTURE(name(dtype));
        CAPTURE(head_dim);
        for (const auto& [cached_positions, new_positions] : kRuns) {
          CAPTURE(cached_positions.end);
          CAPTURE(new_positions.end);
          const Run cached(dtype, cached_positions, head_dim, 7);
          const Run fresh(dtype, new_positions, head_dim, 8);
          const Run cached_f32 = in_f32(cached), fresh_f32 = in_f32(fresh);
          CHECK(AttentionTileProblem(cached, fresh, head_dim).run(*set, {0, 15}) ==
                AttentionTileProblem(cached_f32, fresh_f32, head_dim).run(*set, {0, 15}));
        }
      }
    }
  }
}

TEST_CASE("a position counts the same bits whether it is cached or new") {
  for (const KernelSet* set : attention_sets()) {
    for (const DType dtype : kKvFormats) {
      CAPTURE(set->name);
      CAPTURE(name(dtype));
      const Run all(dtype, {0, 60}, 64, 5), none(dtype, {60, 60}, 64, 6);
      const auto cached = AttentionTileProblem(all, none, 64).run(*set, {0, 16});
      // The last 23 of the same positions as a run of new ones, which starts within a panel.
      KvRun old = all.view(), recent = all.view();
      old.end = recent.begin = 37;
      recent.k += 37 / 16 * kv_panel_bytes(all.key_rows);
      recent.v += 37 / 16 * kv_panel_bytes(all.value_rows);
      const AttentionTileProblem problem(all, none, 64);
      AlignedBytes scratch(kAttentionScratchFloats * 4);
      for (int64_t r = 0; r < 16; ++r) {
        std::vector<float> state = problem.before(r);
        const float* query = &problem.q[static_cast<size_t>(r * 64)];
        float* out = state.data();
        const int32_t visible = 23;
        set->attention({.kv_dtype = dtype,
                        .head_dim = 64,
                        .scale = problem.scale(),
                        .q = &query,
                        .rows = 1,
                        .cached = old,
                        .fresh = recent,
                        .visible_new = &visible,
                        .scratch = reinterpret_cast<float*>(scratch.data()),
                        .state = &out});
        CHECK(differing(state, cached[static_cast<size_t>(r)]) == 0);
      }
    }
  }
}

TEST_CASE("merged states are the reference's, and an empty one changes nothing") {
  for (const KernelSet* set : attention_sets()) {
    CAPTURE(set->name);
    for (const int64_t head_dim : {16, 20, 128}) {
      const std::vector<float> a = some_state(head_dim, 1), b = some_state(head_dim, 2);
      std::vector<float> merged = b;
      set->merge(a.data(), merged.data(), head_dim);
      check_state(merged, reference::merge(exact(a), exact(b)), 16 * kUnitRoundoff);
      std::vector<float> into_empty = empty_state(head_dim), kept = a, empty = into_empty;
      set->merge(a.data(), into_empty.data(), head_dim);
      CHECK(differing(into_empty, a) == 0);
      set->merge(empty_state(head_dim).data(), kept.data(), head_dim);
      CHECK(differing(kept, a) == 0);
      set->merge(empty_state(head_dim).data(), empty.data(), head_dim);
      CHECK(differing(empty, empty_state(head_dim)) == 0);
    }
  }
}

TEST_CASE("a state far below another one vanishes in the merge") {
  for (const KernelSet* set : attention_sets()) {
    std::vector<float> low = some_state(16, 1), high = some_state(16, 2);
    low[16] = -1e4f;
    high[16] = 1e4f;
    std::vector<float> merged = low;
    set->merge(high.data(), merged.data(), 16);
    CHECK(differing(merged, high) == 0);
  }
}
