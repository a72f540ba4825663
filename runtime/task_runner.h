// From a task to a device call: which weights, which buffers, which rows. The only caller of
// Device's stages.
#pragma once

#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/model_vectors.h"
#include "runtime/placement.h"
#include "runtime/step_buffers.h"
#include "sim/task_graph.h"

namespace tandem {

/// Everything a task refers to.
struct TaskScene {
  const Model& model;
  const Plan& plan;
  const Phase& layer_plans;
  const PlacedWeights& weights;  ///< of the unit's memory
  const ModelVectors& vectors;
  const std::vector<LayerKv>& kv;  ///< [layer] of the unit
  StepBuffers& buffers;
  const Step& step;
  std::span<const float* const> states;  ///< that a merge task merges, ascending in position
  bool publish = true;                   ///< another memory reads the task's result
};

/// Every stage but sample, and copy, which devices do by themselves.
void run_task(Device& device, const Task& task, const TaskScene& scene);

}  // namespace tandem
