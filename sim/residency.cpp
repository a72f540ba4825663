#include "sim/residency.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "sim/task_graph.h"

namespace tandem {
namespace {

/// A working set above this share of the last-level cache is partly evicted between two steps.
constexpr double kResidentShare = 0.7;
constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// The decode step that the plan was made for; where no phase holds it, moved to where the first
/// reaches.
Step workload_step(const Plan& plan) {
  const Workload& work = plan.workload;
  const auto holds = [&](const Phase& phase) {
    return phase.tokens.contains(work.tokens) && phase.context.contains(work.context);
  };
  const auto found = std::find_if(plan.phases.begin(), plan.phases.end(), holds);
  const Phase& phase = found == plan.phases.end() ? plan.phases.front() : *found;
  const auto within = [](int64_t value, Range range) {
    return std::clamp(value, range.begin, range.end - 1);
  };
  return {.tokens = within(plan.workload.tokens, phase.tokens),
          .context = within(plan.workload.context, phase.context),
          .logits_rows = 1,
          .parents = {}};
}

}  // namespace

double resident_limit_bytes(const MachineProfile& machine) {
  return kResidentShare * static_cast<double>(machine.machine.last_level_bytes());
}

std::vector<double> decode_bytes(const ModelSpec& model, const Plan& plan) {
  std::vector<double> bytes(plan.units.size());
  for (const Task& task : lower(model, plan, workload_step(plan)).tasks)
    if ((task.num_matrices > 0 && task.stage != Stage::kCopy) || task.stage == Stage::kAttention)
      bytes[static_cast<size_t>(task.unit)] += task.bytes;
  return bytes;
}

std::vector<ResidentCase> resident_cases(double all_bytes, double limit_bytes, int memories) {
  const ResidentCase none, all{~uint64_t{0} >> (64 - memories), kNoLimit};
  if (limit_bytes <= 0) return {none};
  if (memories == 1) return {all_bytes < limit_bytes ? all : none};
  if (memories > kMostMemories) return {none, all};
  std::vector<ResidentCase> cases;
  for (uint64_t staying = 0; staying <= all.memories; ++staying) {
    const int evicted = memories - std::popcount(staying);
    const bool too_little = all_bytes < evicted * limit_bytes;
    const bool too_much = evicted == 0 && all_bytes >= memories * limit_bytes;
    if (!too_little && !too_much) cases.push_back({staying, limit_bytes});
  }
  return cases;
}

}  // namespace tandem
