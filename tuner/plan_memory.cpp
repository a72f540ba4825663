// plan_memory: what a plan needs on each unit.
#include <algorithm>
#include <string>

#include "runtime/memory_needs.h"
#include "tuner/search.h"

namespace tandem {
namespace {

/// A unit the machine lacks shares no memory; whether that is an error is for others to say.
Unit unit_named(const MachineProfile& machine, const std::string& name) {
  const auto at =
      std::find_if(machine.units.begin(), machine.units.end(),
                   [&](const UnitProfile& profile) { return profile.unit.name == name; });
  if (at != machine.units.end()) return at->unit;
  Unit unit;
  unit.name = name;
  unit.memory = "of " + name;
  return unit;
}

}  // namespace

std::vector<Unit> units_named(const MachineProfile& machine,
                              const std::vector<std::string>& names) {
  std::vector<Unit> units;
  for (const std::string& name : names) units.push_back(unit_named(machine, name));
  return units;
}

std::vector<MemoryUse> plan_memory(const ModelSpec& model, const MachineProfile& machine,
                                   const Plan& plan) {
  return memory_needs(model, plan, units_named(machine, plan.units), options_for(plan.workload));
}

}  // namespace tandem
