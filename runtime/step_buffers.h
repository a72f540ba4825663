// What units exchange in a step, and the small inputs of it, in host memory that all of them see.
#pragma once

#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/exchange_memory.h"
#include "runtime/model.h"
#include "runtime/step_sizes.h"
#include "sim/exchange.h"
#include "sim/plan.h"
#include "sim/task_graph.h"

namespace tandem {

struct StepBuffers {
  std::span<float> x;         ///< [tokens x hidden_size] residual stream
  std::span<float> q;         ///< [tokens x num_heads x head_dim]
  std::span<float> attended;  ///< [tokens x num_heads x head_dim]
  std::span<float> h;         ///< [tokens x intermediate_size]
  std::span<float> logits;    ///< [logits rows x vocab_size]
  std::vector<std::span<float>>
      states;  ///< [part][tokens x num_heads x (head_dim + 2)], for heads that are cut
  std::vector<KvView> step;  ///< [layer] all kv heads, new tokens

  /// Written by the host before a step: the depth of the caches (one value), RoPE angles
  /// [tokens x rope_dim / 2 x 2], and parents [tokens] of a tree.
  std::span<int64_t> past;
  std::span<float> cos_sin;
  std::span<int32_t> parents;
  /// Written by the sample task: rows to commit, ended by -1 where there are fewer than [tokens].
  std::span<int32_t> accepted;
  std::span<int32_t> largest;  ///< index (one) of the last row's largest logit

  int64_t bytes = 0;  ///< of all that is here, but for a few values a token

  std::vector<int32_t> token_ids;   ///< of the step
  std::vector<int64_t> positions;   ///< of its tokens
  std::vector<double> frequencies;  ///< [rope_dim / 2]
};

StepBuffers allocate_buffers(const ModelSpec& spec, const Plan& plan, ExchangeMemory& memory,
                             const BufferSizes& sizes);

/// Fills the inputs of a step.
void prepare_step(const Step& step, std::span<const int32_t> token_ids, StepBuffers& buffers);

/// Where a transfer lies; keys and values are two blocks.
std::vector<Block> blocks_of(const Transfer& transfer, const ModelSpec& spec, const Step& step,
                             const StepBuffers& buffers);
/// What the host writes before a step of this shape, and what the sampler does.
std::vector<Block> input_blocks(const ModelSpec& spec, const Step& step,
                                const StepBuffers& buffers);
Block accepted_block(const Step& step, const StepBuffers& buffers);

}  // namespace tandem
