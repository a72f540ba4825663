// What a plan means, op by op: share, columns, bytes, predicted time and what bounds it. Read off
// the task graph, so that it cannot say anything else than what is executed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "profiles/machine_profile.h"
#include "sim/plan.h"
#include "sim/task_graph.h"

namespace tandem {

/// The tasks of one op which have the same range on the same unit in all layers of a group: of a
/// streamed share all pieces, of copies those of all ops.
struct ExplainedOp {
  Range layers;  ///< empty outside layers
  Stage stage = Stage::kEmbed;
  int unit = 0;
  Home home = Home::kResident;  ///< of the weights
  std::string what;             ///< "[0,4224)"; of attention "heads [0,3), context [0,), new"
  std::optional<double> share;  ///< of the op's columns or heads; none where an op is not divided
  int tasks = 0;
  double bytes = 0;    ///< read by all of them
  double seconds = 0;  ///< of all of them, units running at once; 0 without a machine
  std::string
      bound;  ///< "memory dram0", "cache", "compute", "sync" or "link"; "" without a machine
};

struct Explanation {
  Step step;                          ///< what the times are of
  std::vector<ExplainedOp> ops;       ///< by layers, stage, unit
  std::vector<double> bytes_of_unit;  ///< read in a step; copies over a link not counted
  std::optional<double> makespan_s;   ///< none without a machine
};

/// The step that a phase is explained by: the workload's decode step or else its prompt, whichever
/// the phase holds, or else the smallest that it does.
Step typical_step(const Plan& plan, const Phase& phase);
/// `machine` may be null. Error where it lacks a unit of the plan.
Explanation explain(const ModelSpec& model, const Plan& plan, const Step& step,
                    const MachineProfile* machine);

}  // namespace tandem
