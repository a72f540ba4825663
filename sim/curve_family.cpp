#include "sim/curve_family.h"

#include <algorithm>

namespace tandem {

CurveValue CurveFamily::at(double axis, double x) const {
  const auto above = std::find_if(members_.begin(), members_.end(),
                                  [&](const Member& member) { return member.axis >= axis; });
  if (above == members_.end()) {
    CurveValue value = members_.back().curve->at(x);
    value.y *= axis / members_.back().axis;
    value.extrapolated = true;
    return value;
  }
  CurveValue high = above->curve->at(x);
  if (above->axis == axis) return high;
  if (above == members_.begin()) {
    high.extrapolated = true;
    return high;
  }
  const Member& below = *std::prev(above);
  const CurveValue low = below.curve->at(x);
  const double weight = (axis - below.axis) / (above->axis - below.axis);
  return {.y = low.y + weight * (high.y - low.y),
          .spread = low.spread + weight * (high.spread - low.spread),
          .extrapolated = low.extrapolated || high.extrapolated};
}

}  // namespace tandem
