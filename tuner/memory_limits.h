// How much memory there is, and what a plan's units take of it: the host's, which all CPU units
// share, and that of each GPU.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "profiles/machine_profile.h"
#include "runtime/executor.h"

namespace tandem {

struct MemoryTotal {
  std::string name;  ///< "this machine", or a GPU's memory
  MemoryUse use;     ///< of all units in it; what GPUs hold on the host is the host's `host`
  int64_t present = 0;

  int64_t needed() const { return use.own() + use.host; }
};
/// The host's memory, then each GPU's. `uses` are those of `units`.
std::vector<MemoryTotal> memory_totals(const Machine& machine, const std::vector<Unit>& units,
                                       const std::vector<MemoryUse>& uses);

/// Whether every memory has what its units need.
bool all_fit(const std::vector<MemoryTotal>& totals);

/// Error, beginning with `where`, for a unit that the machine lacks.
void check_unit(const MachineProfile& machine, const std::string& unit, const std::string& where);

/// `cpu0=2GiB`, several of them separated by commas or given one by one. Error for anything else.
std::map<std::string, int64_t> parse_budgets(const std::vector<std::string>& texts,
                                             const MachineProfile& machine);

/// Budgets of units by name, and for every GPU at most what its memory has.
std::map<std::string, int64_t> device_budgets(const MachineProfile& machine,
                                              std::map<std::string, int64_t> budgets);

}  // namespace tandem
