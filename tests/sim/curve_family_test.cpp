#include "sim/curve_family.h"

#include <doctest/doctest.h>

#include "tests/sim/fixtures.h"

using namespace tandem;
using doctest::Approx;

namespace {

/// y = x at axis 1 with spread 0.1, y = 4 x at axis 16 with spread 0.3.
struct TwoCurves {
  Curve low = fixtures::proportional(1, 0.1);
  Curve high = fixtures::proportional(4, 0.3);
  CurveFamily family;
  TwoCurves() {
    family.add(1, low);
    family.add(16, high);
  }
};

}  // namespace

TEST_CASE("a family is its curve where it was measured") {
  const TwoCurves two;
  CHECK(two.family.at(1, 10).y == Approx(10));
  CHECK(two.family.at(16, 10).y == Approx(40));
  CHECK_FALSE(two.family.at(16, 10).extrapolated);
}

TEST_CASE("between two curves a family is linear in the logarithms") {
  const TwoCurves two;
  const CurveValue middle = two.family.at(4, 10);  // 4 is halfway from 1 to 16, 20 from 10 to 40
  CHECK(middle.y == Approx(20));
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
