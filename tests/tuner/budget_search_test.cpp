// Budgets of memory: what is counted, and plans that keep them.
#include "tuner/budget_search.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tests/tuner/search_problem.h"
#include "tests/tuner/tiny_machine.h"
#include "tuner/legal_plans.h"
#include "tuner/search.h"

using namespace tandem;

namespace {

int64_t total(const MemoryUse& memory) { return memory.own(); }

}  // namespace

TEST_CASE("units of one memory hold a column once, units of two memories twice") {
  const ModelSpec model = tiny_model();
  Plan plan = single_unit_plan(model, {"a", "b"}, 0);
  Phase other = single_unit_plan(model, {"a", "b"}, 1).phases.front();
  plan.phases.front().tokens = {1, 2};
  other.tokens = {2, kOpenEnd};
  for (size_t i = 0; i < other.layers.size(); ++i)
    other.layers[i].attention = plan.phases.front().layers[i].attention;
  plan.phases.push_back(other);
  const auto shared = plan_memory(model, tiny_machine({{"a", 1, 1, "m"}, {"b", 1, 1, "m"}}), plan);
  CHECK(shared[1].weights == 0);
  const auto apart = plan_memory(model, tiny_machine({{"a"}, {"b"}}), plan);
  CHECK(apart[1].weights > 0);
  CHECK(apart[0].weights == shared[0].weights);
}

TEST_CASE("a budget is kept, and its bound is not above the plan") {
  const ModelSpec model = tiny_model(kDivisible);
  const MachineProfile machine = tiny_machine({{"a", 3e9}, {"b", 1e9}});
  const SearchResult unlimited = search(model, machine, decode_only());
  const int64_t wanted = total(plan_memory(model, machine, unlimited.plan)[0]);
  for (const double part : {0.9, 0.6, 0.4}) {
    SearchOptions options = decode_only();
    options.budget_bytes["a"] = static_cast<int64_t>(part * static_cast<double>(wanted));
    const SearchResult result = search(model, machine, options);
    check_plan(result.plan, model, "plan");
    const auto memory = plan_memory(model, machine, result.plan);
    CHECK(total(memory[0]) <= options.budget_bytes["a"]);
    // What does not fit on a goes to b at the dual's prices: within a quarter of the bound.
    CHECK(result.plan.predicted->gap >= 0);
    CHECK(result.plan.predicted->gap < 0.25);
    CHECK(result.plan.predicted->lower_bound_s >= unlimited.plan.predicted->lower_bound_s);
    // Nine tenths are kept by moving the embedding, which costs nothing; less is not.
    if (part < 0.9)
      CHECK(result.plan.predicted->lower_bound_s > unlimited.plan.predicted->lower_bound_s);
    CHECK_FALSE(result.candidates[1].fits);  // a alone
  }
}

TEST_CASE("budgets of all units are shared out") {
  const ModelSpec model = tiny_model(kDivisible);
  const MachineProfile machine = tiny_machine({{"a", 3e9}, {"b", 1e9}});
  SearchOptions options = decode_only();
  Plan alone = single_unit_plan(model, {"a", "b"}, 0);
  alone.workload = options.workload;
  const auto one = plan_memory(model, machine, alone);
  for (const char* unit : {"a", "b"}) options.budget_bytes[unit] = total(one[0]) * 65 / 100;
  const SearchResult result = search(model, machine, options);
  for (const MemoryUse& memory : plan_memory(model, machine, result.plan))
    CHECK(total(memory) <= total(one[0]) * 65 / 100);
  CHECK(result.verdict.starts_with("hybrid a+b: no unit alone has the memory"));
}

TEST_CASE("budgets that nothing fits end with what is needed") {
  const ModelSpec model = tiny_model(kDivisible);
  const MachineProfile machine = tiny_machine({{"a", 3e9}, {"b", 1e9}});
  SearchOptions options = decode_only();
  options.budget_bytes = {{"a", 1 << 20}, {"b", 1 << 20}};
  CHECK_THROWS_WITH_AS(search(model, machine, options),
                       doctest::Contains("no plan of tiny fits: a needs "), Error);
  options.units = {"a"};
  CHECK_THROWS_WITH_AS(search(model, machine, options), doctest::Contains(" of 1.00 MiB"), Error);
}
