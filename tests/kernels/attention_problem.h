// An attention step for tests of all kinds of units: its queries, keys and values, what it should
// give, and how keys and values lie in a KvView.
#pragma once

#include <algorithm>
#include <vector>

#include "test_data.h"

namespace tandem {

/// Normal values that f16 holds exactly: what a cache gives back is what was put.
inline reference::Matrix random_halves(int64_t rows, int64_t columns, uint64_t seed) {
  std::vector<float> values = random_floats(rows * columns, seed);
  for (float& value : values) value = f16_to_f32(f32_to_f16(value));
  return reference::from_floats(values.data(), rows, columns);
}

// Elements of a view whose memory the host reaches.

inline double element_of(DType dtype, const KvLayout& layout, const KvRow& row, int64_t d) {
  std::vector<std::byte> packed(static_cast<size_t>(kv_row_bytes(layout)));
  copy_kv_row(layout, row, packed_kv_row(layout, packed.data()));
  return reference::kv_row(dtype, packed.data(), layout.width)(0, d);
}
inline double key_at(const KvView& kv, int64_t head, int64_t row, int64_t d) {
  return element_of(kv.dtype, kv.keys(), kv.key(head, row), d);
}
inline double value_at(const KvView& kv, int64_t head, int64_t row, int64_t d) {
  return element_of(kv.dtype, kv.values(), kv.value(head, row), d);
}

/// Stores row `row` of all heads from row `from` of [rows x kv_heads * head_dim] matrices.
inline void put_row(const KvView& kv, int64_t row, const reference::Matrix& keys,
                    const reference::Matrix& values, int64_t from) {
  const int64_t d = kv.head_dim;
  const auto put = [&](const reference::Matrix& rows, int64_t head, const KvLayout& layout,
                       const KvRow& to) {
    const Eigen::RowVectorXf x = rows.row(from).middleCols(head * d, d).cast<float>();
    store_kv_row(*kernel_sets().back(), kv.dtype, x.data(), d, layout, to);
  };
  for (int64_t head = kv.kv_heads.begin; head < kv.kv_heads.end; ++head) {
    put(keys, head, kv.keys(), kv.key(head, row));
    put(values, head, kv.values(), kv.value(head, row));
  }
}

struct AttentionShape {
  int64_t tokens = 1;
  int64_t past = 0;
  int64_t head_dim = 64;
  int64_t kv_heads = 2;
  int64_t group = 3;
};

/// A step's queries, keys and values, all of which f16 holds exactly.
struct AttentionProblem {
  explicit AttentionProblem(const AttentionShape& shape, std::vector<int32_t> tree = {})
      : s(shape),
        parents(std::move(tree)),
        q(random_floats(s.tokens * q_stride(), 1)),
        cached_keys(random_halves(s.past, s.kv_heads * s.head_dim, 2)),
        cached_values(random_halves(s.past, s.kv_heads * s.head_dim, 3)),
        new_keys(random_halves(s.tokens, s.kv_heads * s.head_dim, 4)),
        new_values(random_halves(s.tokens, s.kv_heads * s.head_dim, 5)) {}

  int64_t q_stride() const { return s.kv_heads * s.group * s.head_dim; }
  int64_t state_stride() const { return s.kv_heads * s.group * (s.head_dim + 2); }
  const int32_t* tree() const { return parents.empty() ? nullptr : parents.data(); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(s.head_dim)); }

  reference::Matrix exact() const {
    return reference::attention_output(
        reference::attention({.q = reference::from_floats(q.data(), s.tokens, q_stride()),
                              .cached_keys = cached_keys,
                              .cached_values = cached_values,
                              .new_keys = new_keys,
                              .new_values = new_values,
                              .context = {0, s.past},
                              .parents = tree(),
                              .head_dim = s.head_dim,
                              .group = s.group,
                              .scale = scale()}));
  }

  /// As a cache of this format and a step buffer of it have keys and values.
  AttentionProblem kept(DType dtype) const {
    AttentionProblem rounded = *this;
    for (reference::Matrix* rows :
         {&rounded.cached_keys, &rounded.cached_values, &rounded.new_keys, &rounded.new_values})
      *rows = reference::kv_rounded(dtype, *rows);
    return rounded;
  }

  /// Token t alone, after the context and its ancestors have been decoded into the cache.
  AttentionProblem alone(int64_t t) const {
    std::vector<int64_t> path;
    for (int64_t a = t; a >= 0; a = tree() ? parents[static_cast<size_t>(a)] : a - 1)
      path.insert(path.begin(), a);
    const auto depth = static_cast<int64_t>(path.size()) - 1;
    AttentionProblem one({1, s.past + depth, s.head_dim, s.kv_heads, s.group});
    std::copy_n(&q[static_cast<size_t>(t * q_stride())], q_stride(), one.q.begin());
    one.cached_keys.topRows(s.past) = cached_keys;
    one.cached_values.topRows(s.past) = cached_values;
    for (int64_t i = 0; i < depth; ++i) {
      one.cached_keys.row(s.past + i) = new_keys.row(path[static_cast<size_t>(i)]);
      one.cached_values.row(s.past + i) = new_values.row(path[static_cast<size_t>(i)]);
    }
    one.new_keys.row(0) = new_keys.row(t);
    one.new_values.row(0) = new_values.row(t);
    return one;
  }

  /// Stores what there is of a cache of `positions` (from a multiple of the chunk).
  template <class Kv>
  void fill_cache(Kv& kv, Range positions) const {
    for (int64_t p = positions.begin; p < std::min(positions.end, s.past); ++p)
      kv.put(p - positions.begin, cached_keys, cached_values, p);
  }
  /// Stores the new tokens in a step buffer of step_positions().
  template <class Kv>
  void fill_step(Kv& kv) const {
    for (int64_t t = 0; t < s.tokens; ++t) kv.put(s.past % 16 + t, new_keys, new_values, t);
  }
  Range step_positions() const { return {0, round_up(s.tokens, 16) + 16}; }

  AttentionShape s;
  std::vector<int32_t> parents;
  std::vector<float> q;
  reference::Matrix cached_keys, cached_values, new_keys, new_values;
};

}  // namespace tandem
