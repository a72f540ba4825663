#include "tuner/plan_units.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "kernels/error.h"

namespace tandem {
namespace {

void rename(LinearSplit& split, const std::vector<int>& new_index) {
  for (ColumnShare& share : split) share.unit = new_index[static_cast<size_t>(share.unit)];
}

void rename(Phase& phase, const std::vector<int>& new_index) {
  for (LayerPlan& layer : phase.layers) {
    for (LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
      rename(*split, new_index);
    for (AttentionPart& part : layer.attention)
      part.unit = new_index[static_cast<size_t>(part.unit)];
  }
  rename(phase.lm_head, new_index);
}

}  // namespace

Plan with_units(Plan plan, const std::vector<std::string>& units, const std::string& where) {
  std::vector<int> new_index;
  for (const std::string& name : plan.units) {
    const auto at = std::find(units.begin(), units.end(), name);
    if (at == units.end())
      throw Error(
          fmt::format("{}: unit {}: expected one of {}", where, name, fmt::join(units, ", ")));
    new_index.push_back(static_cast<int>(at - units.begin()));
  }
  for (Phase& phase : plan.phases) rename(phase, new_index);
  plan.embedding = new_index[static_cast<size_t>(plan.embedding)];
  plan.units = units;
  return plan;
}

}  // namespace tandem
