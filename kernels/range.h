// A half-open interval of columns, heads, positions or layers, and the multiples that intervals are
// cut on.
#pragma once

#include <cstdint>

namespace tandem {

/// Half-open interval [begin, end). Every piece of split work is named by one.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  constexpr int64_t size() const { return end > begin ? end - begin : 0; }
  constexpr bool empty() const { return end <= begin; }
  constexpr bool contains(int64_t i) const { return begin <= i && i < end; }
  constexpr bool contains(Range r) const { return r.empty() || (begin <= r.begin && r.end <= end); }
  friend constexpr bool operator==(Range, Range) = default;
};

/// End of a range that has no upper limit (positions of an attention part, tokens of a phase).
inline constexpr int64_t kOpenEnd = INT64_MAX;
/// Every position.
inline constexpr Range kAll{0, kOpenEnd};

/// Context positions are attended in chunks of this many, counted from position 0, merged in
/// ascending order. Cuts of a context fall on multiples of it.
inline constexpr int64_t kAttentionChunk = 256;

/// Output columns are packed in panels of this many on every CPU ISA, so cuts between columns fall
/// on multiples of it, and units of one memory share one copy whatever their ISA.
inline constexpr int64_t kColumnAlign = 16;

/// The common part; empty ranges come back as {begin, begin}.
constexpr Range intersect(Range a, Range b) {
  const int64_t begin = a.begin > b.begin ? a.begin : b.begin;
  const int64_t end = a.end < b.end ? a.end : b.end;
  return {begin, end > begin ? end : begin};
}

/// The smallest range that holds both; an empty range adds nothing.
constexpr Range hull(Range a, Range b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {a.begin < b.begin ? a.begin : b.begin, a.end > b.end ? a.end : b.end};
}

constexpr int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return div_up(a, b) * b; }

}  // namespace tandem
