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
int64_t cuda_matrix_bytes(const ModelSpec& spec, const Plan& plan, const Memories& memories,
                          Home home, size_t memory) {
  const auto bytes_of = [memory](const HeldColumns& columns, DType dtype, int64_t k) {
    int64_t bytes = 0;
    for (const Range piece : columns.of_memory[memory])
      bytes += cuda::matrix_bytes(dtype, piece.size(), k);
    return bytes;
  };
  int64_t bytes =
      bytes_of(held_lm_head(spec, plan, memories, home), spec.lm_head, spec.hidden_size);
  const std::vector<LayerMatrix> matrices = layer_matrices(spec);
  for (int64_t layer = 0; layer < spec.num_layers; ++layer)
    for (const LayerMatrix& matrix : matrices)
      bytes += bytes_of(held_columns(matrix, plan, layer, memories, home),
                        spec.layers[static_cast<size_t>(layer)].*matrix.dtype, matrix.k);
  return bytes;
}

/// Bytes of matrices that each unit is counted with. A copy that is shared is the first unit's, but
/// for what others are counted with.
std::vector<int64_t> weight_bytes(const ModelSpec& spec, const Plan& plan,
                                  const std::vector<Unit>& units, const Memories& memories,
                                  Home home) {
  std::vector<int64_t> bytes = matrix_bytes(spec, plan, memories, home);
  const std::vector<int>& memory_of = memories.of_unit;
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const auto first = std::find(memory_of.begin(), memory_of.end(), memory_of[unit]);
    if (units[unit].kind != UnitKind::kCuda ||
        first != memory_of.begin() + static_cast<ptrdiff_t>(unit))
      continue;
    bytes[unit] =
        cuda_matrix_bytes(spec, plan, memories, home, static_cast<size_t>(memory_of[unit]));
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
  Memories memories{number_memories(units), options.resident_all};
  const uint64_t cuda = cuda_units(units);
  if (options.stream_all) memories.stream_whole = cuda;
  const std::vector<int64_t> weights = weight_bytes(spec, plan, units, memories, Home::kResident);
  const std::vector<int64_t> streamed =
      cuda == 0 ? std::vector<int64_t>(units.size())
                : weight_bytes(spec, plan, units, memories, Home::kStreamed);
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
  add_table(embedding_bytes(spec, plan, units, options.resident_all), cuda, plan.embedding, needs);
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

int64_t embedding_bytes(const ModelSpec& spec, const Plan& plan, const std::vector<Unit>& units,
                        bool resident_all) {
  const auto embedding = static_cast<size_t>(plan.embedding);
  // A head in a CUDA device's memory is none that the driver could read rows from.
  if (!spec.tied_embedding || units[embedding].kind == UnitKind::kCuda) return table_bytes(spec);
  const Memories memories{number_memories(units), resident_all};
  const auto memory = static_cast<size_t>(memories.of_unit[embedding]);
  const std::vector<Range> whole{{0, spec.vocab_size}};
  const bool placed = held_lm_head(spec, plan, memories).of_memory[memory] == whole;
  return placed ? 0 : table_bytes(spec);
}

}  // namespace tandem
