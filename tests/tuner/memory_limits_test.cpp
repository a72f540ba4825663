#include "tuner/memory_limits.h"

#include <doctest/doctest.h>

#include "tests/tuner/tiny_machine.h"

namespace tandem {
namespace {

Unit cpu(const std::string& name) {
  return {.name = name, .cores = {0}, .isa = "", .memory = "dram0"};
}
Unit gpu(const std::string& name, const std::string& memory, int64_t bytes) {
  return {.name = name,
          .kind = UnitKind::kCuda,
          .cores = {0},
          .isa = "",
          .memory = memory,
          .memory_bytes = bytes};
}

TEST_CASE("CPU units share the machine's memory, units of one GPU that GPU's") {
  const std::vector<Unit> units{gpu("g0", "gpu0", 1000), cpu("c0"), gpu("g1", "gpu1", 2000),
                                gpu("g2", "gpu0", 1000), cpu("c1")};
  const std::vector<MemoryUse> uses{{.weights = 100, .kv = 10, .workspace = 1, .host = 7},
                                    {.weights = 200, .kv = 20, .workspace = 2},
                                    {.weights = 300, .kv = 30, .workspace = 3, .host = 9},
                                    {.weights = 400, .kv = 40, .workspace = 4},
                                    {.weights = 500, .kv = 50, .workspace = 5}};
  Machine machine;
  machine.memory_bytes = 5000;
  const std::vector<MemoryTotal> totals = memory_totals(machine, units, uses);
  REQUIRE(totals.size() == 3);
  CHECK(totals[0].name == "this machine");
  CHECK(totals[0].needed() == 222 + 555 + 7 + 9);  // what GPUs hold on the host counts there
  CHECK(totals[0].present == 5000);
  CHECK(totals[1].name == "gpu0");
  CHECK(totals[1].needed() == 111 + 444);
  CHECK(totals[1].present == 1000);
  CHECK(totals[2].needed() == 333);
}

TEST_CASE("a GPU without a memory of its own takes the machine's") {
  const std::vector<MemoryUse> uses{{.weights = 100, .host = 7}};
  const auto totals = memory_totals({}, {gpu("g0", "dram0", 0)}, uses);
  REQUIRE(totals.size() == 1);
  CHECK(totals[0].needed() == 107);
}

TEST_CASE("a GPU's budget is its memory, or less where that was asked for; a CPU unit has none") {
  MachineProfile machine = tiny_machine({{"cpu0"}, {"gpu0"}, {"gpu1"}, {"gpu2"}});
  for (size_t i = 1; i < 4; ++i)
    machine.units[i].unit = gpu(machine.units[i].unit.name, machine.units[i].unit.name, 1000);
  const auto budgets = device_budgets(machine, {{"gpu1", 300}, {"gpu2", 5000}});
  CHECK(budgets == std::map<std::string, int64_t>{{"gpu0", 1000}, {"gpu1", 300}, {"gpu2", 1000}});
}

}  // namespace
}  // namespace tandem
