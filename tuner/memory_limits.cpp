#include "tuner/memory_limits.h"

#include <algorithm>

namespace tandem {
namespace {

void add(MemoryUse& sum, const MemoryUse& use) {
  sum.weights += use.weights;
  sum.kv += use.kv;
  sum.workspace += use.workspace;
}

}  // namespace

std::vector<MemoryTotal> memory_totals(const Machine& machine, const std::vector<Unit>& units,
                                       const std::vector<MemoryUse>& uses) {
  std::vector<MemoryTotal> totals{{"this machine", {}, machine.memory_bytes}};
  for (size_t i = 0; i < units.size(); ++i) {
    totals.front().use.host += uses[i].host;
    if (units[i].memory_bytes == 0) {
      add(totals.front().use, uses[i]);
      continue;
    }
    auto total = std::find_if(totals.begin() + 1, totals.end(), [&](const MemoryTotal& known) {
      return known.name == units[i].memory;
    });
    if (total == totals.end())
      total = totals.insert(total, {units[i].memory, {}, units[i].memory_bytes});
    add(total->use, uses[i]);
  }
  return totals;
}

std::map<std::string, int64_t> device_budgets(const MachineProfile& machine,
                                              std::map<std::string, int64_t> budgets) {
  for (const UnitProfile& profile : machine.units) {
    const Unit& unit = profile.unit;
    if (unit.memory_bytes == 0) continue;
    const auto [budget, is_new] = budgets.try_emplace(unit.name, unit.memory_bytes);
    if (!is_new) budget->second = std::min(budget->second, unit.memory_bytes);
  }
  return budgets;
}

}  // namespace tandem
