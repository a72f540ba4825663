// What one task costs on one unit of a measured machine, alone.
#pragma once

#include "profiles/machine_profile.h"
#include "sim/model_spec.h"
#include "sim/task_graph.h"

namespace tandem {

struct TaskCost {
  double seconds = 0;           ///< alone on its unit
  double spread = 0;            ///< relative interquartile range of the figures behind it
  double memory_bytes = 0;      ///< demand on the unit's memory over `seconds`; 0 = cache-resident
  bool extrapolated = false;    ///< outside what was measured
};

/// Prices tasks of one model on one machine. Unit i of a plan is `units[i]` of the profile by name.
class CostModel {
 public:
  /// Error where the plan names a unit the profile lacks. A dtype that was not measured is priced from the nearest
  /// measured one by bytes and reported by unmeasured().
  CostModel(const ModelSpec& model, const MachineProfile& machine, const Plan& plan);

  TaskCost cost(const Task& task) const;
  /// One-way hand-off from unit a to unit b (0 within a unit).
  double handoff_s(int from, int to) const;
  /// Bytes/s that the units of `active` (bit i = unit i) can draw together from the memory they share.
  double capacity_per_s(uint64_t active_mask) const;
  int memory_of(int unit) const;   ///< index of its memory
  /// Dtypes of the model that the profile has no curve for.
  std::vector<DType> unmeasured() const;
  /// Whether the weights that a unit reads every step stay in its last-level cache.
  bool cache_resident(int unit) const;

 private:
  // (helper fills in)
};

}  // namespace tandem
