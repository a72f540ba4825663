#include "runtime/task_runner.h"

#include <cmath>

#include "kernels/rope.h"

namespace tandem {

int64_t StepBuffers::bytes() const {
  size_t floats = x.size() + q.size() + attended.size() + h.size() + logits.size() + cos_sin.size();
  for (const auto& state : states) floats += state.size();
  int64_t bytes = static_cast<int64_t>(floats * sizeof(float));
  for (const PlacedKv& kv : step) bytes += kv_bytes(kv.view);
  return bytes;
}

StepBuffers allocate_buffers(const ModelSpec& spec, const Plan& plan, Device& device,
                             const BufferSizes& sizes) {
  const StepSizes s = step_sizes(spec, plan, sizes);
  const auto floats = [](int64_t count) { return std::vector<float>(static_cast<size_t>(count)); };
  StepBuffers b;
  b.x = floats(s.x);
  b.q = floats(s.q);
  b.attended = floats(s.attended);
  b.h = floats(s.h);
  b.logits = floats(s.logits);
  b.states.assign(static_cast<size_t>(s.states), floats(s.floats_each));
  for (int64_t layer = 0; layer < s.layers; ++layer) b.step.push_back(allocate_kv(device, s.step));
  b.cos_sin = floats(s.cos_sin);
  b.frequencies = inverse_frequencies(spec.rope_theta, spec.rope_dim, spec.rope_factors);
  b.token_ids.reserve(static_cast<size_t>(sizes.tokens));
  b.positions.reserve(static_cast<size_t>(sizes.tokens));
  return b;
}

void prepare_step(const Step& step, std::span<const int32_t> token_ids, StepBuffers& buffers) {
  buffers.token_ids.assign(token_ids.begin(), token_ids.end());
  buffers.positions.clear();
  for (int64_t t = 0; t < step.tokens; ++t) {
    const int64_t parent = step.parents.empty() ? t - 1 : step.parents[static_cast<size_t>(t)];
    buffers.positions.push_back(parent < 0 ? step.context
                                           : buffers.positions[static_cast<size_t>(parent)] + 1);
  }
  fill_rope_table(buffers.positions, buffers.frequencies, buffers.cos_sin.data());
}

namespace {

const float* data_or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

LinearInput plain(const float* x, int64_t tokens) { return {.x = x, .tokens = tokens}; }

LinearInput normed(const TaskScene& s, const float* x, int64_t tokens,
                   const std::vector<float>& weight) {
  return {.x = x,
          .tokens = tokens,
          .norm_weight = weight.data(),
          .norm_eps = static_cast<float>(s.model.spec.norm_eps)};
}

void run_qkv(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  const auto layer = static_cast<size_t>(task.layer);
  const LayerWeights& source = s.model.layers[layer];
  const PlacedLayer& placed = s.weights.layers[layer];
  const int64_t width = spec.qkv_columns_per_kv_head();
  const Range kv_heads{task.range.begin / width, task.range.end / width};
  const int64_t d = spec.head_dim, group = spec.group() * d;
  const Range queries{kv_heads.begin * group, kv_heads.end * group};
  const Range keys{kv_heads.begin * d, kv_heads.end * d};
  device.qkv({.input = normed(s, s.buffers.x.data(), task.tokens, source.attn_norm),
              .wq = piece_of(placed.q, queries),
              .wk = piece_of(placed.k, keys),
              .wv = piece_of(placed.v, keys),
              .bq = data_or_null(source.q_bias),
              .bk = data_or_null(source.k_bias),
              .bv = data_or_null(source.v_bias),
              .q_norm = data_or_null(source.q_norm),
              .k_norm = data_or_null(source.k_norm),
              .kv_heads = kv_heads,
              .group = spec.group(),
              .head_dim = spec.head_dim,
              .rope_dim = spec.rope_dim,
              .rope_order =
                  spec.architecture == Architecture::kLlama ? RopeOrder::kNormal : RopeOrder::kNeox,
              .cos_sin = s.buffers.cos_sin.data(),
              .past = s.step.context,
              .q = s.buffers.q.data(),
              .q_stride = spec.q_size(),
              .step = s.buffers.step[layer].view});
}

void run_attention(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  const auto layer = static_cast<size_t>(task.layer);
  const AttentionPart& part =
      layer_plan(s.layer_plans, task.layer).attention[static_cast<size_t>(task.part)];
  device.attention(
      {.tokens = task.tokens,
       .parents = s.step.parents.empty() ? nullptr : s.step.parents.data(),
       .past = s.step.context,
       .kv_heads = task.range,
       .group = spec.group(),
       .head_dim = spec.head_dim,
       .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim))),
       .q = s.buffers.q.data(),
       .q_stride = spec.q_size(),
       .cache = home_of(s.kv[layer], task.range.begin, part.context.begin),
       .context = intersect(part.context, {0, s.step.context}),
       .include_new = part.new_tokens,
       .step = s.buffers.step[layer].view,
       .out = task.whole ? s.buffers.attended.data() : nullptr,
       .state = task.whole ? nullptr : s.buffers.states[static_cast<size_t>(task.part)].data()});
}

void run_merge(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  device.merge({.tokens = task.tokens,
                .kv_heads = task.range,
                .group = spec.group(),
                .head_dim = spec.head_dim,
                .states = s.states,
                .out = s.buffers.attended.data(),
                .q_stride = spec.q_size()});
}

/// out and down: columns are added to the residual stream.
void run_residual(Device& device, const Task& task, const TaskScene& s,
                  const std::vector<float>& input, const MatrixPieces& weights) {
  device.linear({.input = plain(input.data(), task.tokens),
                 .weights = piece_of(weights, task.range),
                 .columns = task.range,
                 .y = s.buffers.x.data(),
                 .y_stride = s.model.spec.hidden_size,
                 .add = true});
}

void run_gate_up(Device& device, const Task& task, const TaskScene& s) {
  const auto layer = static_cast<size_t>(task.layer);
  device.gate_up(
      {.input = normed(s, s.buffers.x.data(), task.tokens, s.model.layers[layer].ffn_norm),
       .gate = piece_of(s.weights.layers[layer].gate, task.range),
       .up = piece_of(s.weights.layers[layer].up, task.range),
       .columns = task.range,
       .h = s.buffers.h.data(),
       .h_stride = s.model.spec.intermediate_size});
}

/// The last task.tokens rows of the step.
void run_lm_head(Device& device, const Task& task, const TaskScene& s) {
  const ModelSpec& spec = s.model.spec;
  const float* x = s.buffers.x.data() + (s.step.tokens - task.tokens) * spec.hidden_size;
  device.linear({.input = normed(s, x, task.tokens, s.model.output_norm),
                 .weights = piece_of(s.weights.lm_head, task.range),
                 .columns = task.range,
                 .y = s.buffers.logits.data(),
                 .y_stride = spec.vocab_size});
}

void run_commit(Device& device, const Task& task, const TaskScene& s) {
  for (int64_t layer = task.range.begin; layer < task.range.end; ++layer) {
    const auto i = static_cast<size_t>(layer);
    for (const PlacedKv& home : s.kv[i])
      device.commit({.step = s.buffers.step[i].view,
                     .cache = home.view,
                     .rows = s.accepted,
                     .first_position = s.step.context});
  }
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
      return;
  }
}

}  // namespace tandem
