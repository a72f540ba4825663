#include "tuner/sweep.h"

#include <fmt/format.h>

#include <random>

#include "kernels/error.h"
#include "tuner/legal_plans.h"
#include "tuner/shares.h"

namespace tandem {
namespace {

constexpr int kSweepSteps = 20;  // of 5 %
constexpr int64_t kDeepest = 4096;
constexpr int64_t kWidest = 64;

void check_units(const std::vector<std::string>& units) {
  if (units.size() < 2)
    throw Error(
        fmt::format("--sweep: needs two units to divide work between, the profile has {}: "
                    "see `tandem profile --units`",
                    units.size()));
}

/// The first unit's share, the rest in equal parts.
std::vector<double> uneven_shares(double first, size_t units) {
  std::vector<double> shares(units, (1 - first) / static_cast<double>(units - 1));
  shares[0] = first;
  return shares;
}

/// Whole heads by shares; qkv follows them.
void set_heads(Plan& plan, const ModelSpec& model, const std::vector<double>& shares) {
  std::vector<AttentionPart> parts;
  for (const ColumnShare& share : split_by_shares(model.num_kv_heads, shares, 1))
    parts.push_back({share.unit, share.columns, kAll, true});
  for (Phase& phase : plan.phases)
    for (LayerPlan& layer : phase.layers) {
      layer.attention = parts;
      layer.qkv = qkv_of_heads(model, parts);
    }
}

void set_columns(Plan& plan, const ModelSpec& model, const std::vector<double>& shares) {
  for (Phase& phase : plan.phases) {
    for (LayerPlan& layer : phase.layers) {
      layer.out = split_by_shares(model.hidden_size, shares, kColumnAlign);
      layer.gate_up = split_by_shares(model.intermediate_size, shares, kColumnAlign);
      layer.down = layer.out;
    }
    phase.lm_head = split_by_shares(model.vocab_size, shares, kColumnAlign);
  }
}

}  // namespace

std::vector<NamedPlan> column_sweep(const ModelSpec& model, const std::vector<std::string>& units) {
  check_units(units);
  std::vector<NamedPlan> plans;
  for (int i = 0; i <= kSweepSteps; ++i) {
    const double first = static_cast<double>(i) / kSweepSteps;
    const auto shares = uneven_shares(first, units.size());
    NamedPlan point{fmt::format("{} {:.0f} %", units[0], 100 * first),
                    single_unit_plan(model, units, 0)};
    set_columns(point.plan, model, shares);
    set_heads(point.plan, model, shares);
    plans.push_back(std::move(point));
  }
  return plans;
}

std::vector<NamedPlan> head_sweep(const ModelSpec& model, const Plan& base) {
  check_units(base.units);
  std::vector<NamedPlan> plans;
  for (int64_t heads = 0; heads <= model.num_kv_heads; ++heads) {
    const double first = static_cast<double>(heads) / static_cast<double>(model.num_kv_heads);
    NamedPlan point{fmt::format("{} {} heads", base.units[0], heads), base};
    set_heads(point.plan, model, uneven_shares(first, base.units.size()));
    plans.push_back(std::move(point));
  }
  return plans;
}

std::vector<NamedPlan> random_plans(const ModelSpec& model, const std::vector<std::string>& units,
                                    int64_t count, uint64_t seed, int64_t max_context,
                                    uint64_t can_stream) {
  std::mt19937_64 random(seed);
  std::vector<NamedPlan> plans;
  for (int64_t i = 0; i < count; ++i) {
    RandomPlanOptions options;
    options.positions = i % 2 == 1;
    options.max_context = max_context;
    options.can_stream = can_stream;
    plans.push_back({fmt::format("random {}{}", i, options.positions ? " (positions)" : ""),
                     random_plan(model, units, random, options)});
  }
  return plans;
}

std::vector<TrialShape> context_sweep(const ModelSpec& model, int64_t tokens) {
  std::vector<TrialShape> shapes;
  for (int64_t context = 0; context <= kDeepest && context + tokens <= model.max_context;
       context = context == 0 ? kAttentionChunk / 2 : 2 * context)
    shapes.push_back({TrialKind::kDecode, tokens, context});
  return shapes;
}

std::vector<TrialShape> token_sweep(const ModelSpec& model, int64_t context) {
  std::vector<TrialShape> shapes;
  for (int64_t tokens = 1; tokens <= kWidest && context + tokens <= model.max_context; tokens *= 2)
    shapes.push_back({TrialKind::kDecode, tokens, context});
  return shapes;
}

std::vector<Trial> make_trials(std::span<const NamedPlan> plans,
                               const std::vector<TrialShape>& shapes) {
  std::vector<Trial> trials;
  for (const TrialShape& shape : shapes)
    for (const NamedPlan& plan : plans)
      trials.push_back({.label = plan.label,
                        .plan = &plan.plan,
                        .kind = shape.kind,
                        .tokens = shape.tokens,
                        .context = shape.context});
  return trials;
}

}  // namespace tandem
