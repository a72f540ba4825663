#include "sim/head_runs.h"

#include <algorithm>
#include <utility>

namespace tandem {
namespace {

bool has_context(const AttentionPart& part, const Step& step) {
  return !intersect(part.context, {0, step.context}).empty();
}

std::vector<int> working_parts(const LayerPlan& layer, int64_t head, const Step& step) {
  std::vector<int> parts;
  for (size_t i = 0; i < layer.attention.size(); ++i) {
    const AttentionPart& part = layer.attention[i];
    if (part.kv_heads.contains(head) && (part.new_tokens || has_context(part, step)))
      parts.push_back(static_cast<int>(i));
  }
  const auto first_position = [&](int i) {
    const AttentionPart& part = layer.attention[static_cast<size_t>(i)];
    return has_context(part, step) ? part.context.begin : kOpenEnd;
  };
  std::stable_sort(parts.begin(), parts.end(),
                   [&](int a, int b) { return first_position(a) < first_position(b); });
  return parts;
}

}  // namespace

std::vector<HeadRun> head_runs(const ModelSpec& model, const LayerPlan& layer, const Step& step) {
  std::vector<HeadRun> runs;
  for (int64_t head = 0; head < model.num_kv_heads; ++head) {
    std::vector<int> parts = working_parts(layer, head, step);
    if (!runs.empty() && runs.back().parts == parts)
      runs.back().kv_heads.end = head + 1;
    else
      runs.push_back({{head, head + 1}, std::move(parts)});
  }
  return runs;
}

}  // namespace tandem
