#include "sim/plan.h"

#include <fmt/format.h>

#include "kernels/error.h"

namespace tandem {
namespace {

/// Makes `a` the union of both where that is a rectangle of heads x positions.
bool join(KvHome& a, const KvHome& b) {
  if (a.unit != b.unit) return false;
  const auto adjacent = [](Range r, Range s) { return r.end == s.begin || s.end == r.begin; };
  const bool same_positions = a.positions == b.positions && adjacent(a.kv_heads, b.kv_heads);
  const bool same_heads = a.kv_heads == b.kv_heads && adjacent(a.positions, b.positions);
  if (!same_positions && !same_heads) return false;
  a.kv_heads = hull(a.kv_heads, b.kv_heads);
  a.positions = hull(a.positions, b.positions);
  return true;
}

bool join_any(std::vector<KvHome>& homes) {
  for (size_t i = 0; i < homes.size(); ++i)
    for (size_t j = i + 1; j < homes.size(); ++j)
      if (join(homes[i], homes[j])) {
        homes.erase(homes.begin() + static_cast<std::ptrdiff_t>(j));
        return true;
      }
  return false;
}

}  // namespace

const Phase& phase_for(const Plan& plan, int64_t tokens, int64_t context) {
  for (const Phase& phase : plan.phases)
    if (phase.tokens.contains(tokens) && phase.context.contains(context)) return phase;
  throw Error(fmt::format(
      "plan: no phase is for a step of {} tokens at context {}; add one that holds both", tokens,
      context));
}

const LayerPlan& layer_plan(const Phase& phase, int64_t layer) {
  for (const LayerPlan& plan : phase.layers)
    if (plan.layers.contains(layer)) return plan;
  throw Error(fmt::format("plan: no entry of the phase is for layer {}", layer));
}

Plan single_unit_plan(const ModelSpec& model, const std::vector<std::string>& units, int unit) {
  const auto whole = [&](int64_t columns) { return LinearSplit{{unit, {0, columns}}}; };
  Phase phase;
  phase.lm_head = whole(model.vocab_size);
  phase.layers.push_back({.layers = {0, model.num_layers},
                          .qkv = whole(qkv_columns(model)),
                          .out = whole(model.hidden_size),
                          .gate_up = whole(model.intermediate_size),
                          .down = whole(model.hidden_size),
                          .attention = {{unit, {0, model.num_kv_heads}, kAll, true}}});
  Plan plan;
  plan.model_name = model.name;
  plan.model_dtype = dtype_name(model);
  plan.model_fingerprint = model.fingerprint;
  plan.units = units;
  plan.phases.push_back(std::move(phase));
  plan.embedding = unit;
  return plan;
}

std::vector<KvHome> layer_kv_homes(const LayerPlan& layer) {
  std::vector<KvHome> homes;
  for (const AttentionPart& part : layer.attention)
    if (!part.context.empty()) homes.push_back({part.unit, -1, part.kv_heads, part.context});
  while (join_any(homes)) {
  }
  return homes;
}

std::vector<KvHome> kv_homes(const Plan& plan, const ModelSpec& model) {
  std::vector<KvHome> homes;
  for (int64_t layer = 0; layer < model.num_layers; ++layer)
    for (KvHome home : layer_kv_homes(layer_plan(plan.phases.front(), layer))) {
      home.layer = layer;
      homes.push_back(home);
    }
  return homes;
}

}  // namespace tandem
