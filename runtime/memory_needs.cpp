#include "runtime/memory_needs.h"

#include <algorithm>

#include "kernels/cpu_workspace.h"
#include "kernels/cuda_workspace.h"
#include "runtime/step_sizes.h"

namespace tandem {
namespace {

int64_t kv_bytes_of(const std::vector<std::vector<KvView>>& layers) {
  int64_t bytes = 0;
  for (const std::vector<KvView>& homes : layers)
    for (const KvView& home : homes) bytes += kv_bytes(home);
  return bytes;
}

/// Of all columns that lie in a memory, as a CUDA unit packs them.
int64_t cuda_matrix_bytes(const ModelSpec& spec, std::span<const Plan> plans,
                          const std::vector<int>& memory_of, Home home, size_t memory) {
  const auto bytes_of = [memory](const HeldColumns& columns, DType dtype, int64_t k) {
    int64_t bytes = 0;
    for (const Range piece : columns.of_memory[memory])
      bytes += cuda::matrix_bytes(dtype, piece.size(), k);
    return bytes;
  };
  int64_t bytes = bytes_of(held_lm_head(plans, memory_of, home), spec.lm_head, spec.hidden_size);
  const std::vector<LayerMatrix> matrices = layer_matrices(spec);
  for (int64_t layer = 0; layer < spec.num_layers; ++layer)
    for (const LayerMatrix& matrix : matrices)
      bytes += bytes_of(held_columns(matrix, plans, layer, memory_of, home),
                        spec.layers[static_cast<size_t>(layer)].*matrix.dtype, matrix.k);
  return bytes;
}

/// Bytes of matrices that each unit is counted with. A copy that is shared is the first unit's, but
/// for what others are counted with.
std::vector<int64_t> weight_bytes(const ModelSpec& spec, std::span<const Plan> plans,
                                  const std::vector<Unit>& units, const std::vector<int>& memory_of,
                                  Home home) {
  std::vector<int64_t> bytes = matrix_bytes(spec, plans, memory_of, home);
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const auto first = std::find(memory_of.begin(), memory_of.end(), memory_of[unit]);
    if (units[unit].kind != UnitKind::kCuda ||
        first != memory_of.begin() + static_cast<ptrdiff_t>(unit))
      continue;
    bytes[unit] =
        cuda_matrix_bytes(spec, plans, memory_of, home, static_cast<size_t>(memory_of[unit]));
    for (size_t other = unit + 1; other < units.size(); ++other)
      if (memory_of[other] == memory_of[unit]) bytes[unit] -= bytes[other];
  }
  return bytes;
}

int64_t scratch_bytes(const Unit& unit, const DeviceLimits& limits) {
  if (unit.kind == UnitKind::kCuda) return cuda::cuda_workspace(limits).bytes();
  return cpu_workspace(limits).bytes(std::ssize(unit.cores));
}

}  // namespace

std::vector<MemoryUse> memory_needs(const ModelSpec& spec, const Plan& plan,
                                    const std::vector<Unit>& units,
                                    const ExecutorOptions& options) {
  const std::vector<Plan> plans = all_plans(plan, options);
  const std::vector<int> memory_of = number_memories(units);
  const uint64_t cuda = cuda_units(units);
  const std::vector<int64_t> weights = weight_bytes(spec, plans, units, memory_of, Home::kResident);
  const std::vector<int64_t> streamed =
      cuda == 0 ? std::vector<int64_t>(units.size())
                : weight_bytes(spec, plans, units, memory_of, Home::kStreamed);
  const auto kv = kv_views(spec, plan, options.max_context);
  const DeviceLimits limits = device_limits(spec, options);
  std::vector<MemoryUse> needs(units.size());
  for (size_t unit = 0; unit < units.size(); ++unit)
    needs[unit] = {.weights = weights[unit],
                   .kv = kv_bytes_of(kv[unit]),
                   .workspace = scratch_bytes(units[unit], limits) +
                                (streamed[unit] > 0 ? kStreamSlots * kStreamSlotBytes : 0),
                   .host = streamed[unit]};
  const StepSizes buffers = step_sizes(
      spec, plan, {.tokens = options.max_tokens, .logits_rows = options.max_logits_rows});
  add_step_buffers(buffers.bytes(), cuda, needs);
  add_table(embedding_bytes(spec, plans, units), cuda, plan.embedding, needs);
  return needs;
}

void add_step_buffers(int64_t bytes, uint64_t cuda, std::vector<MemoryUse>& uses) {
  for (size_t unit = 0; unit < uses.size(); ++unit)
    if (cuda >> unit & 1) uses[unit].workspace += bytes;
  (cuda & 1 ? uses.front().host : uses.front().workspace) += bytes;
}

void add_table(int64_t bytes, uint64_t cuda, int unit, std::vector<MemoryUse>& uses) {
  MemoryUse& use = uses[static_cast<size_t>(unit)];
  (cuda >> unit & 1 ? use.host : use.weights) += bytes;
}

ExecutorOptions options_for(const Workload& workload) {
  ExecutorOptions options;
  options.max_context = std::max(workload.context + workload.tokens, workload.prompt);
  options.max_tokens = std::max(workload.tokens, std::min(workload.prompt, options.max_tokens));
  options.max_logits_rows = workload.tokens;
  return options;
}

std::vector<Plan> all_plans(const Plan& first, const ExecutorOptions& options) {
  std::vector<Plan> plans{first};
  plans.insert(plans.end(), options.other_plans.begin(), options.other_plans.end());
  return plans;
}

DeviceLimits device_limits(const ModelSpec& spec, const ExecutorOptions& options) {
  return {.tokens = options.max_tokens,
          .k = std::max({spec.hidden_size, spec.intermediate_size, spec.q_size()}),
          .columns =
              std::max({spec.hidden_size, spec.intermediate_size, spec.q_size(), spec.vocab_size}),
          .context = options.max_context,
          .heads = spec.num_heads,
          .head_dim = spec.head_dim};
}

int64_t table_bytes(const ModelSpec& spec) {
  return spec.vocab_size * row_bytes(spec.embedding, spec.hidden_size);
}

int64_t embedding_bytes(const ModelSpec& spec, std::span<const Plan> plans,
                        const std::vector<Unit>& units) {
  return reads_table(spec, plans, number_memories(units), cuda_units(units)) ? table_bytes(spec)
                                                                             : 0;
}

}  // namespace tandem
