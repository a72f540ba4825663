#include "profiles/curve.h"

#include <doctest/doctest.h>

using namespace tandem;

namespace {

/// y = x up to 101, then y = 10 x - 909.
const Curve kBent{{{1, {1, 0.0}}, {101, {101, 0.2}}, {1101, {10101, 0.4}}}};

}  // namespace

TEST_CASE("a curve goes through its points") {
  for (const CurvePoint& point : kBent.points) {
    const CurveValue value = kBent.at(point.x);
    CHECK(value.y == point.y.median);
    CHECK(value.spread == point.y.spread);
    CHECK_FALSE(value.extrapolated);
  }
}

TEST_CASE("between points a curve is a line and its spread is mixed") {
  CHECK(kBent.at(51).y == doctest::Approx(51));
  CHECK(kBent.at(51).spread == doctest::Approx(0.1));
  CHECK(kBent.at(601).y == doctest::Approx(5101));
  CHECK_FALSE(kBent.at(601).extrapolated);
}

TEST_CASE("below its first point a curve stays constant and says that it was not measured") {
  const CurveValue value = kBent.at(0.5);
  CHECK(value.y == 1);
  CHECK(value.extrapolated);
}

TEST_CASE("above its last point a curve goes on in proportion and says that it was not measured") {
  const CurveValue value = kBent.at(2202);
  CHECK(value.y == doctest::Approx(20202));  // 10101 * 2202 / 1101
  CHECK(value.spread == 0.4);
  CHECK(value.extrapolated);
}

TEST_CASE("a curve of one point is constant below and proportional above") {
  const Curve curve{{{10, {5, 0}}}};
  CHECK(curve.at(1).y == 5);
  CHECK(curve.at(10).y == 5);
  CHECK_FALSE(curve.at(10).extrapolated);
  CHECK(curve.at(20).y == doctest::Approx(10));
}
