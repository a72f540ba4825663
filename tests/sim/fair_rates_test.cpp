#include "sim/fair_rates.h"

#include <doctest/doctest.h>

#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;
using doctest::Approx;

namespace {

/// Rates of tasks with these demands, one per unit, on units of these bandwidths.
std::vector<double> rates(const MachineProfile& machine, std::vector<double> demands) {
  const ModelSpec model = small_model();
  std::vector<std::string> units;
  for (const UnitProfile& unit : machine.units) units.push_back(unit.unit.name);
  const CostModel cost(model, machine, single_unit_plan(model, units, 0));
  std::vector<Running> running;
  for (size_t i = 0; i < demands.size(); ++i)
    running.push_back({.lane = static_cast<int>(i), .demand_per_s = demands[i]});
  share_rates(cost, running);
  std::vector<double> found;
  for (const Running& task : running) found.push_back(task.rate);
  return found;
}

MachineProfile three_units(double total_per_s, double slowdown = 1) {
  MachineProfile machine = machine_of({reader("a", 10), reader("b", 10), reader("c", 10)});
  machine.contention = {{{"a", "b", "c"}, {total_per_s, 0}, {}, {slowdown, 0}}};
  return machine;
}

}  // namespace

TEST_CASE("units whose demands fit the capacity run at full speed") {
  CHECK(rates(three_units(18), {6, 6, 6}) == std::vector<double>{1, 1, 1});
}

TEST_CASE("what small demands leave over is shared by the large ones") {
  // Capacity 18: an even share is 6; c wants 2, so a and b share 16.
  const auto found = rates(three_units(18), {10, 9, 2});
  CHECK(found[0] == Approx(8.0 / 10));
  CHECK(found[1] == Approx(8.0 / 9));
  CHECK(found[2] == Approx(1));
}

TEST_CASE("a unit that draws alone runs at the speed it was measured at") {
  CHECK(rates(three_units(18), {30}) == std::vector<double>{1});
  CHECK(rates(three_units(18), {30, 0, 0}) == std::vector<double>{1, 1, 1});
}

TEST_CASE("shared clocks slow every unit, and what they leave of a demand may fit the memory") {
  // 1 / 1.25 = 0.8 of each demand: 0.8 x (10 + 9 + 2) = 16.8 fits 18.
  for (const double rate : rates(three_units(18, 1.25), {10, 9, 2})) CHECK(rate == Approx(0.8));
  // At capacity 12 an even share is 4: c keeps 1.6, a and b share 10.4.
  const auto found = rates(three_units(12, 1.25), {10, 9, 2});
  CHECK(found[0] == Approx(0.52));
  CHECK(found[1] == Approx(5.2 / 9));
  CHECK(found[2] == Approx(0.8));
}

TEST_CASE("units of different memories do not slow each other") {
  MachineProfile machine = three_units(10);
  machine.units[1].unit.memory = "dram1";
  CHECK(rates(machine, {10, 10, 0}) == std::vector<double>{1, 1, 1});
}

TEST_CASE("a unit is slowed while its own link copies, and not by others' links") {
  const ModelSpec model = small_model();
  MachineProfile machine =
      machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 16), cuda_reader("gpu1", 64, 16)});
  machine.units[1].stream_slowdown = {1.25, 0};
  const CostModel cost(model, machine, single_unit_plan(model, {"cpu0", "gpu0", "gpu1"}, 0));
  const auto rates_of = [&](std::vector<int> lanes) {
    std::vector<Running> running;
    for (const int lane : lanes) running.push_back({.lane = lane});
    share_rates(cost, running);
    std::vector<double> found;
    for (const Running& task : running) found.push_back(task.rate);
    return found;
  };
  CHECK(rates_of({0, 1, cost.link_of(1)}) == std::vector<double>{1, 0.8, 1});
  CHECK(rates_of({0, 1, cost.link_of(2)}) == std::vector<double>{1, 1, 1});
  CHECK(rates_of({2, cost.link_of(2)}) == std::vector<double>{1, 1});  // not measured
}
