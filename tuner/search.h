// Chooses a plan: exact per stage, a Lagrangian bound over memory budgets.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "profiles/machine_profile.h"
#include "runtime/executor.h"
#include "sim/model_spec.h"
#include "sim/plan.h"

namespace tandem {

struct SearchOptions {
  Workload workload;
  DType kv_dtype = DType::kF16;
  std::map<std::string, int64_t> budget_bytes;  ///< per unit; absent = the machine's memory
  std::vector<std::string> units;               ///< to use; empty = all of the profile
};

/// One plan that was scored, for the report.
struct Candidate {
  std::string name;  ///< "cpu0 alone", "even", "planned"
  double decode_step_s = 0;
  double prefill_s = 0;
  bool fits = true;
};

struct SearchResult {
  Plan plan;                          ///< with predicted filled in
  std::vector<Candidate> candidates;  ///< the plan, every single unit, the even split, and "layers"
                                      ///< where a budget binds (see layer_granular.h)
  std::string verdict;                ///< "hybrid cpu0+cpu1, 1.31x cpu0 alone" or "cpu0 alone: ..."
  std::vector<std::string> warnings;
  std::optional<Plan> layers;  ///< whole layers on units, where a budget binds
};

/// The plan with the least time for a request of the prompt and 128 decode steps
/// (kPlannedDecodeSteps), since one placement of keys and values serves both. One unit alone is
/// chosen unless dividing pays more than 1 %. The lower bound is of the decode step. Error where no
/// plan fits the budgets.
SearchResult search(const ModelSpec& model, const MachineProfile& machine,
                    const SearchOptions& options);

/// Bytes a plan needs on each unit for the steps of its workload (see memory_needs).
std::vector<MemoryUse> plan_memory(const ModelSpec& model, const MachineProfile& machine,
                                   const Plan& plan);
/// The units of these names, as the machine has them. One that it lacks has a memory of its own and
/// no cores.
std::vector<Unit> units_named(const MachineProfile& machine, const std::vector<std::string>& names);

}  // namespace tandem
