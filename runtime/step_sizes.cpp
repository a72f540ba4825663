#include "runtime/step_sizes.h"

#include <algorithm>

#include "kernels/kernel_set.h"
#include "runtime/placement.h"

namespace tandem {
namespace {

/// A layer where any part lacks positions or new tokens cuts heads: every part of it may then leave
/// a state.
int64_t parts_with_states(const LayerPlan& layer) {
  const auto cut = [](const AttentionPart& part) {
    return part.context != kAll || !part.new_tokens;
  };
  const bool any = std::any_of(layer.attention.begin(), layer.attention.end(), cut);
  return any ? std::ssize(layer.attention) : 0;
}

}  // namespace

StepSizes step_sizes(const ModelSpec& spec, const Plan& plan, const BufferSizes& sizes) {
  StepSizes s{.x = sizes.tokens * spec.hidden_size,
              .q = sizes.tokens * spec.q_size(),
              .attended = sizes.tokens * spec.q_size(),
              .h = sizes.tokens * spec.intermediate_size,
              .logits = sizes.logits_rows * spec.vocab_size,
              .floats_each = sizes.tokens * spec.num_heads * (spec.head_dim + 2),
              .cos_sin = sizes.tokens * spec.rope_dim,
              .layers = spec.num_layers,
              .step = {}};
  for (const Phase& phase : plan.phases)
    for (const LayerPlan& layer : phase.layers)
      s.states = std::max(s.states, parts_with_states(layer));
  // Token t lies in row past % 16 + t, and panels are whole.
  const int64_t rows = round_up(sizes.tokens, kPanelColumns) + kPanelColumns;
  s.step = {.dtype = plan.kv_dtype,
            .kv_heads = {0, spec.num_kv_heads},
            .positions = {0, rows},
            .head_dim = spec.head_dim};
  return s;
}

int64_t StepSizes::bytes() const {
  const int64_t floats = x + q + attended + h + logits + states * floats_each + cos_sin;
  return floats * static_cast<int64_t>(sizeof(float)) + layers * kv_bytes(step);
}

}  // namespace tandem
