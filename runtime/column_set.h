// A set of columns as disjoint ranges.
#pragma once

#include <vector>

#include "kernels/range.h"

namespace tandem {

/// Disjoint ranges in ascending order, no two of them adjacent.
class ColumnSet {
 public:
  /// Adds a range. Result: the pieces of it that were missing, ascending.
  std::vector<Range> add(Range range);
  const std::vector<Range>& pieces() const { return pieces_; }

 private:
  std::vector<Range> pieces_;
};

}  // namespace tandem
