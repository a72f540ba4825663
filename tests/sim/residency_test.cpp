#include "sim/residency.h"

#include <doctest/doctest.h>

#include "sim/cost.h"
#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;

namespace {

Plan two_unit_plan_of(const ModelSpec& model, std::vector<std::string> units) {
  Plan plan = two_unit_plan(model);
  plan.units = std::move(units);
  return plan;
}

std::vector<uint64_t> memories(const std::vector<ResidentCase>& cases) {
  std::vector<uint64_t> sets;
  for (const ResidentCase& c : cases) sets.push_back(c.memories);
  return sets;
}

}  // namespace

TEST_CASE("what a decode step reads divides as the plan does, and its sum does not depend on it") {
  const ModelSpec model = small_model();
  const std::vector<double> one = decode_bytes(model, single_unit_plan(model, {"a", "b"}, 1));
  const std::vector<double> two = decode_bytes(model, two_unit_plan(model));
  CHECK(one[0] == 0);
  CHECK(one[1] == 598272);  // see cost_test.cpp
  CHECK(two[0] == 299136);
  CHECK(two[1] == 299136);
}

TEST_CASE("cases are the sets of memories that may stay in cache, given what is read in all") {
  using Sets = std::vector<uint64_t>;
  CHECK(memories(resident_cases(100, 0, 2)) == Sets{0});  // no cache is known
  CHECK(memories(resident_cases(100, 101, 1)) == Sets{1});
  CHECK(memories(resident_cases(100, 100, 1)) == Sets{0});
  // Less than one cache holds: one memory at most can have more, if it had everything.
  CHECK(memories(resident_cases(99, 100, 2)) == Sets{3});
  // Both stay, or one has too much; both having too much takes 200.
  CHECK(memories(resident_cases(150, 100, 2)) == Sets{1, 2, 3});
  CHECK(memories(resident_cases(200, 100, 2)) == Sets{0, 1, 2});
  CHECK(resident_cases(200, 100, 2)[1].most_bytes == 100);
  CHECK(memories(resident_cases(1, 100, 5)) == Sets{0, 31});
}

TEST_CASE("a cost model has in cache what its plan leaves there, or what it is told") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 100), reader("cpu1", 100)});
  machine.units[1].unit.memory = "dram1";
  machine.machine.caches = {{3, 500000, 1}};  // 350000 of them: half of a step, not a whole one
  Plan one = single_unit_plan(model, {"cpu0", "cpu1"}, 0);
  const CostModel alone(model, machine, one);
  CHECK(alone.num_memories() == 2);
  CHECK_FALSE(alone.cache_resident(0));
  CHECK(alone.cache_resident(1));
  const CostModel halves(model, machine, two_unit_plan(model));
  CHECK(halves.cache_resident(0));
  CHECK(halves.cache_resident(1));
  const CostModel told(model, machine, one, uint64_t{1});
  CHECK(told.cache_resident(0));
  CHECK_FALSE(told.cache_resident(1));
}

TEST_CASE("what a CUDA unit reads never stays in the host's cache, however little it is") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 100), reader("gpu0", 100)});
  machine.units[1].unit.kind = UnitKind::kCuda;
  machine.machine.caches = {{3, int64_t{1} << 30, 1}};
  for (const std::string memory : {"gpu0", "dram0"}) {  // its own, and one it shares with the host
    CAPTURE(memory);
    machine.units[1].unit.memory = memory;
    const CostModel cost(model, machine, two_unit_plan_of(model, {"cpu0", "gpu0"}));
    CHECK(cost.cache_resident(0));
    CHECK_FALSE(cost.cache_resident(1));
    CHECK_FALSE(CostModel(model, machine, two_unit_plan_of(model, {"cpu0", "gpu0"}), ~uint64_t{0})
                    .cache_resident(1));
  }
  // Nor does it take anything of that cache: the CPU's half fits where both halves would not.
  machine.machine.caches = {{3, 500000, 1}};  // 350000 of them; half a step is 299136
  CHECK(CostModel(model, machine, two_unit_plan_of(model, {"cpu0", "gpu0"})).cache_resident(0));
}
