#include "sim/curve_family.h"

#include <doctest/doctest.h>

#include "tests/sim/fixtures.h"

using namespace tandem;
using doctest::Approx;

namespace {

/// y = x at axis 2 with spread 0.1, y = 4 x at axis 16 with spread 0.3.
struct TwoCurves {
  Curve low = fixtures::proportional(1, 0.1);
  Curve high = fixtures::proportional(4, 0.3);
  CurveFamily family;
  TwoCurves() {
    family.add(2, low);
    family.add(16, high);
  }
};

}  // namespace

TEST_CASE("a family is its curve where it was measured") {
  const TwoCurves two;
  CHECK(two.family.at(2, 10).y == Approx(10));
  CHECK(two.family.at(16, 10).y == Approx(40));
  CHECK_FALSE(two.family.at(16, 10).extrapolated);
}

TEST_CASE("between two curves a family is linear") {
  const TwoCurves two;
  const CurveValue middle = two.family.at(9, 10);  // 9 is halfway from 2 to 16, 25 from 10 to 40
  CHECK(middle.y == Approx(25));
  CHECK(middle.spread == Approx(0.2));
  CHECK_FALSE(middle.extrapolated);
}

TEST_CASE("beyond its curves a family stays below, goes on in proportion above, and says so") {
  const TwoCurves two;
  CHECK(two.family.at(0.5, 10).y == Approx(10));
  CHECK(two.family.at(0.5, 10).extrapolated);
  CHECK(two.family.at(32, 10).y == Approx(80));
  CHECK(two.family.at(32, 10).extrapolated);
}
