#include "runtime/memory_needs.h"

#include <algorithm>

#include "kernels/cpu_workspace.h"
#include "runtime/step_sizes.h"

namespace tandem {
namespace {

int64_t kv_bytes_of(const std::vector<std::vector<KvView>>& layers) {
  int64_t bytes = 0;
  for (const std::vector<KvView>& homes : layers)
    for (const KvView& home : homes) bytes += kv_bytes(home);
  return bytes;
}

}  // namespace

std::vector<MemoryUse> memory_needs(const ModelSpec& spec, const Plan& plan,
                                    const std::vector<Unit>& units,
                                    const ExecutorOptions& options) {
  const Memories memories{number_memories(units), options.resident_all};
  const std::vector<int64_t> weights = matrix_bytes(spec, plan, memories);
  const auto kv = kv_views(spec, plan, options.max_context);
  // Of CPU units; a unit of another kind needs a function of its own here.
  const CpuWorkspace scratch = cpu_workspace(device_limits(spec, options));
  std::vector<MemoryUse> needs(units.size());
  for (size_t unit = 0; unit < units.size(); ++unit)
    needs[unit] = {.weights = weights[unit],
                   .kv = kv_bytes_of(kv[unit]),
                   .workspace = scratch.bytes(std::ssize(units[unit].cores))};
  needs[static_cast<size_t>(plan.embedding)].weights +=
      embedding_bytes(spec, plan, units, options.resident_all);
  needs.front().workspace +=
      step_sizes(spec, plan, {.tokens = options.max_tokens, .logits_rows = options.max_logits_rows})
          .bytes();
  return needs;
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
          .context = options.max_context,
          .heads = spec.num_heads,
          .head_dim = spec.head_dim};
}

int64_t embedding_bytes(const ModelSpec& spec, const Plan& plan, const std::vector<Unit>& units,
                        bool resident_all) {
  const Memories memories{number_memories(units), resident_all};
  const auto memory = static_cast<size_t>(memories.of_unit[static_cast<size_t>(plan.embedding)]);
  const std::vector<Range> whole{{0, spec.vocab_size}};
  if (spec.tied_embedding && resident_lm_head(spec, plan, memories).of_memory[memory] == whole)
    return 0;
  return spec.vocab_size * row_bytes(spec.embedding, spec.hidden_size);
}

}  // namespace tandem
