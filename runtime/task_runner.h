// From a task to a device call: which weights, which buffers, which rows. The only caller of
// Device's stages.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/placement.h"
#include "runtime/step_sizes.h"
#include "sim/task_graph.h"

namespace tandem {

/// What units exchange in a step, in host memory that all of them see; and the new tokens' keys and
/// values.
struct StepBuffers {
  std::vector<float> x;         ///< [tokens x hidden_size] residual stream
  std::vector<float> q;         ///< [tokens x num_heads x head_dim]
  std::vector<float> attended;  ///< [tokens x num_heads x head_dim]
  std::vector<float> h;         ///< [tokens x intermediate_size]
  std::vector<float> logits;    ///< [logits rows x vocab_size]
  std::vector<std::vector<float>>
      states;  ///< [part][tokens x num_heads x (head_dim + 2)], for heads that are cut
  std::vector<PlacedKv> step;       ///< [layer] all kv heads
  std::vector<double> frequencies;  ///< [rope_dim / 2]
  std::vector<float> cos_sin;       ///< [tokens x rope_dim / 2 x 2]
  std::vector<int32_t> token_ids;
  std::vector<int64_t> positions;

  int64_t bytes() const;
};

StepBuffers allocate_buffers(const ModelSpec& spec, const Plan& plan, Device& device,
                             const BufferSizes& sizes);

/// Fills token ids, positions and RoPE angles.
void prepare_step(const Step& step, std::span<const int32_t> token_ids, StepBuffers& buffers);

/// Everything a task refers to.
struct TaskScene {
  const Model& model;
  const Plan& plan;
  const Phase& layer_plans;
  const PlacedWeights& weights;    ///< of the unit's memory
  const std::vector<LayerKv>& kv;  ///< [layer] of the unit
  StepBuffers& buffers;
  const Step& step;
  std::span<const float* const> states;  ///< that a merge task merges, ascending in position
  const std::vector<int32_t>& accepted;
};

/// Every stage but sample.
void run_task(Device& device, const Task& task, const TaskScene& scene);

}  // namespace tandem
