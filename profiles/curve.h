// A measured curve: points with spread, interpolated in log size, never extrapolated silently.
#pragma once

#include <string>
#include <vector>

namespace tandem {

/// One measured figure: the median of repeated measurements and their interquartile range over the median.
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
  bool extrapolated = false;  ///< x lies outside the measured points; y then goes on in proportion to x
                              ///< above, and stays at the first point below
};

struct Curve {
  std::vector<CurvePoint> points;

  bool empty() const { return points.empty(); }
  /// Linear between points in (log x, log y). The curve must not be empty.
  CurveValue at(double x) const;
};

}  // namespace tandem
