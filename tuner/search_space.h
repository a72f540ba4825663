// What a search works on: the kinds of layers of a model, priced for the planned steps on the units
// it may use.
#pragma once

#include <string>
#include <vector>

#include "tuner/search.h"
#include "tuner/step_relaxation.h"

namespace tandem {

/// The decode or verification step that is planned.
Step decode_step(const Workload& workload);
/// The steps of the planned prefill; none without a prompt.
std::vector<Step> prefill_steps(const Workload& workload);

/// Runs of layers whose matrices have the same dtypes: one decision serves all of them.
struct LayerClass {
  std::vector<Range> runs;
  int64_t count() const;
};
std::vector<LayerClass> layer_classes(const ModelSpec& model);

/// References outlive the functions below.
struct SearchSpace {
  const ModelSpec& model;
  const std::vector<std::string>& units;
  const SearchOptions& options;
  const CostModel& cost;  ///< of these units in this order
};

/// First number of tokens of the prefill phase: the geometric middle between the two planned steps.
int64_t first_prefill_tokens(int64_t decode, int64_t prefill);

/// The best plan where memory is no concern: decode and prefill have their own splits of columns.
Plan free_plan(const SearchSpace& space);
/// The decode step relaxed.
StepRelaxation relax_decode(const SearchSpace& space);

}  // namespace tandem
