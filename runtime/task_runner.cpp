#include "runtime/task_runner.h"

#include <cmath>
#include <vector>

namespace tandem {

namespace {

const float* data_or_null(std::span<const float> v) { return v.empty() ? nullptr : v.data(); }

LinearInput plain(const float* x, int64_t tokens) { return {.x = x, .tokens = tokens}; }

LinearInput normed(const TaskScene& s, const float* x, int64_t tokens,
                   std::span<const float> weight) {
  return {.x = x,
          .tokens = tokens,
          .norm_weight = weight.data(),
          .norm_eps = static_cast<float>(s.model.spec.norm_eps)};
}

void run_qkv(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  const auto layer = static_cast<size_t>(task.layer);
  const LayerVectors& vectors = s.vectors.layers[layer];
  const PlacedLayer& placed = s.weights.layers[layer];
  const int64_t width = spec.qkv_columns_per_kv_head();
  const Range kv_heads{task.range.begin / width, task.range.end / width};
  const int64_t d = spec.head_dim, group = spec.group() * d;
  const Range queries{kv_heads.begin * group, kv_heads.end * group};
  const Range keys{kv_heads.begin * d, kv_heads.end * d};
  device.qkv({.input = normed(s, s.buffers.x.data(), task.tokens, vectors.attn_norm),
              .wq = piece_of(placed.q, queries, task.home),
              .wk = piece_of(placed.k, keys, task.home),
              .wv = piece_of(placed.v, keys, task.home),
              .bq = data_or_null(vectors.q_bias),
              .bk = data_or_null(vectors.k_bias),
              .bv = data_or_null(vectors.v_bias),
              .q_norm = data_or_null(vectors.q_norm),
              .k_norm = data_or_null(vectors.k_norm),
              .kv_heads = kv_heads,
              .group = spec.group(),
              .head_dim = spec.head_dim,
              .rope_dim = spec.rope_dim,
              .rope_order =
                  spec.architecture == Architecture::kLlama ? RopeOrder::kNormal : RopeOrder::kNeox,
              .cos_sin = s.buffers.cos_sin.data(),
              .past = StepValue::looked_up(s.buffers.past.data()),
              .q = s.buffers.q.data(),
              .q_stride = spec.q_size(),
              .step = s.buffers.step[layer],
              .publish = s.publish});
}

void run_attention(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  const auto layer = static_cast<size_t>(task.layer);
  const AttentionPart& part =
      layer_plan(s.layer_plans, task.layer).attention[static_cast<size_t>(task.part)];
  device.attention(
      {.tokens = task.tokens,
       .parents = s.step.parents.empty() ? nullptr : s.buffers.parents.data(),
       .past = StepValue::looked_up(s.buffers.past.data()),
       .kv_heads = task.range,
       .group = spec.group(),
       .head_dim = spec.head_dim,
       .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim))),
       .q = s.buffers.q.data(),
       .q_stride = spec.q_size(),
       .cache = home_of(s.kv[layer], task.range.begin, part.context.begin),
       .context = part.context,
       .include_new = part.new_tokens,
       .step = s.buffers.step[layer],
       .out = task.whole ? s.buffers.attended.data() : nullptr,
       .state = task.whole ? nullptr : s.buffers.states[static_cast<size_t>(task.part)].data(),
       .publish = s.publish});
}

void run_merge(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  device.merge({.tokens = task.tokens,
                .kv_heads = task.range,
                .group = spec.group(),
                .head_dim = spec.head_dim,
                .states = s.states,
                .out = s.buffers.attended.data(),
                .q_stride = spec.q_size(),
                .publish = s.publish});
}

/// out and down: columns are added to the residual stream.
void run_residual(Device& device, const Task& task, const TaskScene& s,
                  std::span<const float> input, const MatrixPieces& weights) {
  device.linear({.input = plain(input.data(), task.tokens),
                 .weights = piece_of(weights, task.range, task.home),
                 .columns = task.range,
                 .y = s.buffers.x.data(),
                 .y_stride = s.model.spec.hidden_size,
                 .add = true,
                 .publish = s.publish});
}

void run_gate_up(Device& device, const Task& task, const TaskScene& s) {
  const auto layer = static_cast<size_t>(task.layer);
  device.gate_up(
      {.input = normed(s, s.buffers.x.data(), task.tokens, s.vectors.layers[layer].ffn_norm),
       .gate = piece_of(s.weights.layers[layer].gate, task.range, task.home),
       .up = piece_of(s.weights.layers[layer].up, task.range, task.home),
       .columns = task.range,
       .h = s.buffers.h.data(),
       .h_stride = s.model.spec.intermediate_size,
       .publish = s.publish});
}

/// The last task.tokens rows of the step.
void run_lm_head(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  const float* x = s.buffers.x.data() + (s.step.tokens - task.tokens) * spec.hidden_size;
  device.linear({.input = normed(s, x, task.tokens, s.vectors.output_norm),
                 .weights = piece_of(s.weights.lm_head, task.range, task.home),
                 .columns = task.range,
                 .y = s.buffers.logits.data(),
                 .y_stride = spec.vocab_size,
                 .publish = s.publish});
}

void run_commit(Device& device, const Task& task, const TaskScene& s) {
  std::vector<CommitCache> caches;
  caches.reserve(static_cast<size_t>(task.range.size()));  // a home a layer, mostly
  for (int64_t layer = task.range.begin; layer < task.range.end; ++layer) {
    const auto i = static_cast<size_t>(layer);
    for (const PlacedKv& home : s.kv[i]) caches.push_back({s.buffers.step[i], home.view});
  }
  device.commit({.caches = caches,
                 .rows = s.buffers.accepted.first(static_cast<size_t>(s.step.tokens)),
                 .first_position = StepValue::looked_up(s.buffers.past.data())});
}

}  // namespace

void run_task(Device& device, const Task& task, const TaskScene& s) {
  const PlacedLayer* placed =
      task.layer >= 0 ? &s.weights.layers[static_cast<size_t>(task.layer)] : nullptr;
  switch (task.stage) {
    case Stage::kEmbed:
      return device.embed({.table = s.model.embedding,
                           .placed = s.weights.tied_embedding(s.model.spec),
                           .token_ids = s.buffers.token_ids,
                           .x = s.buffers.x.data()});
    case Stage::kQkv:
      return run_qkv(device, task, s);
    case Stage::kAttention:
      return run_attention(device, task, s);
    case Stage::kMerge:
      return run_merge(device, task, s);
    case Stage::kOut:
      return run_residual(device, task, s, s.buffers.attended, placed->out);
    case Stage::kGateUp:
      return run_gate_up(device, task, s);
    case Stage::kDown:
      return run_residual(device, task, s, s.buffers.h, placed->down);
    case Stage::kLmHead:
      return run_lm_head(device, task, s);
    case Stage::kCommit:
      return run_commit(device, task, s);
    case Stage::kSample:
    case Stage::kCopy:
      return;
  }
}

}  // namespace tandem
