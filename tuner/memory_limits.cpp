#include "tuner/memory_limits.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "kernels/error.h"
#include "tuner/format.h"

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

bool all_fit(const std::vector<MemoryTotal>& totals) {
  return std::all_of(totals.begin(), totals.end(),
                     [](const MemoryTotal& total) { return total.needed() <= total.present; });
}

void check_unit(const MachineProfile& machine, const std::string& unit, const std::string& where) {
  std::vector<std::string> known;
  for (const UnitProfile& profile : machine.units) known.push_back(profile.unit.name);
  if (std::find(known.begin(), known.end(), unit) == known.end())
    throw Error(fmt::format("{}: machine {} has no unit '{}', expected one of {}", where,
                            machine.machine.name, unit, fmt::join(known, ", ")));
}

std::map<std::string, int64_t> parse_budgets(const std::vector<std::string>& texts,
                                             const MachineProfile& machine) {
  std::map<std::string, int64_t> budgets;
  for (const std::string& text : texts)
    for (const std::string& piece : split_list(text)) {
      const size_t equals = piece.find('=');
      if (equals == std::string::npos)
        throw Error(fmt::format("--budget: '{}', expected unit=bytes, e.g. cpu0=2GiB", piece));
      const std::string unit = piece.substr(0, equals);
      check_unit(machine, unit, "--budget");
      budgets[unit] = parse_bytes(piece.substr(equals + 1), "--budget " + unit);
    }
  return budgets;
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
