#include "tuner/plan_units.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

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

void erase_empty(LinearSplit& split) {
  std::erase_if(split, [](const ColumnShare& share) { return share.columns.empty(); });
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

std::vector<int> working_units(const Plan& plan) {
  std::set<int> working = {plan.embedding};
  const auto add = [&](const LinearSplit& split) {
    for (const ColumnShare& share : split)
      if (!share.columns.empty()) working.insert(share.unit);
  };
  for (const Phase& phase : plan.phases) {
    add(phase.lm_head);
    for (const LayerPlan& layer : phase.layers) {
      for (const LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
        add(*split);
      for (const AttentionPart& part : layer.attention) working.insert(part.unit);
    }
  }
  return {working.begin(), working.end()};
}

Plan without_idle_units(Plan plan) {
  std::vector<int> new_index(plan.units.size(), -1);
  std::vector<std::string> units;
  for (const int unit : working_units(plan)) {
    new_index[static_cast<size_t>(unit)] = static_cast<int>(units.size());
    units.push_back(plan.units[static_cast<size_t>(unit)]);
  }
  for (Phase& phase : plan.phases) {
    for (LayerPlan& layer : phase.layers)
      for (LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
        erase_empty(*split);
    erase_empty(phase.lm_head);
    rename(phase, new_index);
  }
  plan.embedding = new_index[static_cast<size_t>(plan.embedding)];
  plan.units = std::move(units);
  return plan;
}

}  // namespace tandem
