#include "tuner/agreement.h"

#include <doctest/doctest.h>

#include <array>

#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

std::vector<Unit> two_units(const std::string& first, const std::string& second) {
  Unit a{.name = "cpu0", .kind = UnitKind::kCpu, .cores = {0}, .isa = first, .memory = "dram0"};
  Unit b = a;
  b.name = "cpu1";
  b.isa = second;
  return {a, b};
}

TEST_CASE("Column and head splits over one kernel set must keep every bit") {
  const Plan plan = even_plan(tiny_model(), {"cpu0", "cpu1"});
  CHECK(keeps_every_bit(plan, two_units("avx2", "avx2")));
  CHECK_FALSE(keeps_every_bit(plan, two_units("avx2", "generic")));
}

TEST_CASE("A unit that computes nothing does not matter, the reference's kernel set does") {
  const Plan first = single_unit_plan(tiny_model(), {"cpu0", "cpu1"}, 0);
  const Plan second = single_unit_plan(tiny_model(), {"cpu0", "cpu1"}, 1);
  CHECK(keeps_every_bit(first, two_units("avx2", "generic")));
  CHECK_FALSE(keeps_every_bit(second, two_units("avx2", "generic")));
}

TEST_CASE("A head cut by positions need not keep every bit") {
  Plan plan = even_plan(tiny_model(), {"cpu0", "cpu1"});
  auto& parts = plan.phases[0].layers[0].attention;
  parts = {{0, {0, 2}, {0, 256}, false}, {1, {0, 2}, {256, kOpenEnd}, true}};
  CHECK_FALSE(keeps_every_bit(plan, two_units("avx2", "avx2")));
}

TEST_CASE("Relative error is the norm of the difference over the norm of the reference") {
  const std::array reference{3.f, 4.f};  // norm 5
  const std::array logits{3.f, 4.5f};    // difference 0.5
  CHECK(relative_l2(logits, reference) == doctest::Approx(0.1));
  CHECK(relative_l2(reference, reference) == 0);
  const std::array zero{0.f, 0.f};
  CHECK(relative_l2(reference, zero) == 5);
}

TEST_CASE(
    "The tolerance is that of the coarsest rounding in the model, by the root of the layers") {
  // sqrt(2 x 2 layers) = 2, sqrt(2 x 8 layers) = 4.
  CHECK(rounding_tolerance(tiny_model(), DType::kF32) == doctest::Approx(2 * 5e-6));
  CHECK(rounding_tolerance(tiny_model({.layers = 8}), DType::kF32) == doctest::Approx(4 * 5e-6));
  CHECK(rounding_tolerance(tiny_model(), DType::kF16) == doctest::Approx(2 * 7e-4));
  CHECK(rounding_tolerance(tiny_model(), DType::kBF16) == doctest::Approx(2 * 3.8e-3));
  CHECK(rounding_tolerance(tiny_model(), DType::kQ8_0) == doctest::Approx(2 * 1.3e-2));
  ModelSpec mixed = tiny_model({.dtype = DType::kBF16});
  CHECK(rounding_tolerance(mixed, DType::kF32) == doctest::Approx(2 * 3.8e-3));
  mixed.layers[1].down = DType::kQ4_0;
  CHECK(rounding_tolerance(mixed, DType::kF16) == doctest::Approx(2 * 1.3e-2));
}

TEST_CASE("Identical logits hold, others only within a tolerance that is allowed") {
  CHECK(Agreement{.identical = true, .must_be_identical = true}.holds());
  CHECK_FALSE(Agreement{.must_be_identical = true, .relative_error = 1e-9}.holds());
  CHECK(Agreement{.relative_error = 1e-3, .tolerance = 2e-3}.holds());
  CHECK_FALSE(Agreement{.relative_error = 3e-3, .tolerance = 2e-3}.holds());
}

}  // namespace
}  // namespace tandem
