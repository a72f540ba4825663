// Which attention parts work together on which kv heads in one step.
#pragma once

#include <vector>

#include "sim/task_graph.h"

namespace tandem {

/// A maximal run of kv heads that the same parts work on, those parts in ascending order of
/// position.
struct HeadRun {
  Range kv_heads;
  std::vector<int> parts;
};

/// Runs of a layer's heads, ascending. A part has work where the step's context reaches into its
/// positions, or where it takes the new tokens; new tokens come after every position of the
/// context.
std::vector<HeadRun> head_runs(const ModelSpec& model, const LayerPlan& layer, const Step& step);

}  // namespace tandem
