#include "tuner/plan_units.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

TEST_CASE("A plan over some units becomes the same plan over all of them") {
  const ModelSpec model = tiny_model();
  const Plan plan = with_units(single_unit_plan(model, {"b"}, 0), {"a", "b"}, "plan.yaml");
  CHECK(plan.units == std::vector<std::string>{"a", "b"});
  CHECK(plan.phases == single_unit_plan(model, {"a", "b"}, 1).phases);
  CHECK(plan.embedding == 1);
  CHECK_NOTHROW(check_plan(plan, model, "plan.yaml"));
}

TEST_CASE("Units in another order keep what they had") {
  const ModelSpec model = tiny_model();
  const Plan plan = even_plan(model, {"a", "b"});
  const Plan twice = with_units(with_units(plan, {"b", "c", "a"}, ""), {"a", "b", "c"}, "");
  CHECK(twice.phases == plan.phases);
  CHECK(twice.embedding == plan.embedding);
}

TEST_CASE("A unit that is not there is named") {
  const Plan plan = even_plan(tiny_model(), {"a", "b"});
  CHECK_THROWS_WITH_AS(with_units(plan, {"a", "c"}, "plan.yaml"),
                       "plan.yaml: unit b: expected one of a, c", Error);
}

}  // namespace
}  // namespace tandem
