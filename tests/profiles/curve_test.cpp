#include "profiles/curve.h"

#include <doctest/doctest.h>

using namespace tandem;

namespace {

/// y = x up to 100, then y = x^2 / 100.
const Curve kBent{{{1, {1, 0.0}}, {100, {100, 0.2}}, {10000, {1e6, 0.4}}}};

}  // namespace

TEST_CASE("a curve goes through its points") {
  for (const CurvePoint& point : kBent.points) {
    const CurveValue value = kBent.at(point.x);
    CHECK(value.y == point.y.median);
    CHECK(value.spread == point.y.spread);
    CHECK_FALSE(value.extrapolated);
  }
}

TEST_CASE("between points a curve is a power law and its spread is mixed") {
  // log 10 lies half-way between log 1 and log 100: sqrt(1 * 100) = 10, spread (0 + 0.2) / 2.
  CHECK(kBent.at(10).y == doctest::Approx(10));
  CHECK(kBent.at(10).spread == doctest::Approx(0.1));
  // Half-way between 100 and 10000: sqrt(1e2 * 1e6) = 1e4.
  CHECK(kBent.at(1000).y == doctest::Approx(1e4));
  CHECK_FALSE(kBent.at(1000).extrapolated);
}

TEST_CASE("below its first point a curve stays constant and says that it was not measured") {
  const CurveValue value = kBent.at(0.5);
  CHECK(value.y == 1);
  CHECK(value.extrapolated);
}

TEST_CASE("above its last point a curve goes on in proportion and says that it was not measured") {
  const CurveValue value = kBent.at(20000);
  CHECK(value.y == doctest::Approx(2e6));  // 1e6 * 20000 / 10000
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
