#include "runtime/column_set.h"

#include <algorithm>
#include <utility>

namespace tandem {

std::vector<Range> ColumnSet::add(Range range) {
  std::vector<Range> missing;
  if (range.empty()) return missing;
  std::vector<Range> pieces;
  Range joined = range;
  int64_t next = range.begin;  // what of `range` lies below it was seen
  for (const Range piece : pieces_) {
    if (piece.end < range.begin || range.end < piece.begin) {
      pieces.push_back(piece);
      continue;
    }
    if (next < piece.begin) missing.push_back({next, piece.begin});
    next = std::max(next, piece.end);
    joined = hull(joined, piece);
  }
  if (next < range.end) missing.push_back({next, range.end});
  const auto after = [&](Range piece) { return piece.begin > joined.begin; };
  pieces.insert(std::find_if(pieces.begin(), pieces.end(), after), joined);
  pieces_ = std::move(pieces);
  return missing;
}

}  // namespace tandem
