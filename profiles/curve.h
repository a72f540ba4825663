// A measured curve: points with spread, interpolated, never extrapolated silently.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <vector>

namespace tandem {

/// One measured figure: the median of repeated measurements and their interquartile range over the
/// median.
struct Figure {
  double median = 0;
  double spread = 0;
};

struct CurvePoint {
  double x = 0;  ///< ascending, > 0
  Figure y;      ///< seconds unless the owner says otherwise, > 0
};

struct CurveValue {
  double y = 0;
  double spread = 0;          ///< interpolated between the neighbours
  bool extrapolated = false;  ///< x lies outside the measured points; y then goes on in proportion
                              ///< to x above, and stays at the first point below
};

struct Curve {
  std::vector<CurvePoint> points;

  bool empty() const { return points.empty(); }
  /// Linear between points: time is a start-up plus something per x, which this gets exactly.
  /// (Linear in the logarithms overestimates it by up to 6 % at points a factor 4 apart.)
  /// The curve must not be empty, x > 0.
  CurveValue at(double x) const;
};

// Inline, so that sim can read curves and link nothing of this folder.
inline CurveValue Curve::at(double x) const {
  assert(!points.empty() && x > 0);
  const CurvePoint& first = points.front();
  const CurvePoint& last = points.back();
  if (x < first.x) return {first.y.median, first.y.spread, true};
  if (x > last.x) return {last.y.median * (x / last.x), last.y.spread, true};
  const auto above =
      std::lower_bound(points.begin(), points.end(), x,
                       [](const CurvePoint& point, double v) { return point.x < v; });
  if (above->x == x) return {above->y.median, above->y.spread, false};
  const CurvePoint& below = *(above - 1);
  const double share = (x - below.x) / (above->x - below.x);
  return {below.y.median + share * (above->y.median - below.y.median),
          below.y.spread + share * (above->y.spread - below.y.spread), false};
}

}  // namespace tandem
