// Curves of one kernel measured at several values of a second axis (tokens, or rows), read at any
// value.
#pragma once

#include <vector>

#include "profiles/curve.h"

namespace tandem {

/// Members point into a profile, which outlives the family.
class CurveFamily {
 public:
  /// Axis values ascend from call to call.
  void add(double axis, const Curve& curve) { members_.push_back({axis, &curve}); }
  bool empty() const { return members_.empty(); }

  /// Linear between two curves read at x. Below the first curve its value stays, above
  /// the last it goes on in proportion to the axis; both count as extrapolated. The family must not
  /// be empty.
  CurveValue at(double axis, double x) const;

 private:
  struct Member {
    double axis;
    const Curve* curve;
  };
  std::vector<Member> members_;
};

}  // namespace tandem
