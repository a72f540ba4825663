// A lowered step in the form that drivers walk: who does which tasks in which order, which flags
// they wait for and raise, and what they copy.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/step_buffers.h"
#include "sim/exchange.h"
#include "sim/plan.h"
#include "sim/task_graph.h"

namespace tandem {

/// Which tasks there are depends on the step's shape and on which parts of the context it reaches,
/// not on how deep it is, so a decode loop reuses one program, and units that record replay it.
struct Program {
  uint64_t recording = 0;  ///< never 0: names the program to devices
  Step shape;
  std::vector<bool> reached;  ///< see reached_parts()
  const Phase* phase = nullptr;
  TaskGraph graph;
  Exchange exchange;
  /// Lane u: what unit u does itself. Lane num_units + u: what the driver of a unit that enqueues
  /// does on the host meanwhile. Ids in order; copies of streamed weights are in none, since
  /// devices make them ahead by themselves.
  std::vector<std::vector<int>> lanes;
  std::vector<std::vector<int>> waits;   ///< [task] flags to take before it
  std::vector<std::vector<int>> raises;  ///< [task] flags to raise after it
  int num_flags = 0;
  std::vector<std::vector<const float*>>
      states;  ///< [task] that a merge merges, ascending in position
};

/// Units with a memory of their own queue their tasks.
Program make_program(const ModelSpec& model, const Plan& plan, const Step& step,
                     const StepBuffers& buffers, const UnitMemories& memories, uint64_t recording);

/// Whether a step can run as this program.
bool same_shape(const Program& program, const Plan& plan, const Step& step);

}  // namespace tandem
