#include "tuner/step_relaxation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem {
namespace {

bool may_stream(const StepRelaxation& step, std::span<const double> budget_bytes, size_t unit) {
  return std::isfinite(budget_bytes[unit]) && step.stream_per_s[unit] > 0;
}

/// What a dual is a function of: seconds per byte of units with a budget, and the weight of the
/// host's memory.
struct Multipliers {
  std::vector<double> prices;
  double host = 0;
};

/// What is left of the weight of the stages' times when the host and every unit's link have theirs.
double stage_weight(const StepRelaxation& step, const Multipliers& at,
                    std::span<const double> budget_bytes) {
  const double host_price = at.host / step.host_per_s;
  double weight = 1 - at.host;
  for (size_t unit = 0; unit < at.prices.size(); ++unit)
    if (may_stream(step, budget_bytes, unit))
      weight -= std::max(0.0, at.prices[unit] - host_price) * step.stream_per_s[unit];
  return weight;
}

double dual_s(const StepRelaxation& step, const Multipliers& at,
              std::span<const double> budget_bytes) {
  const double weight = stage_weight(step, at, budget_bytes);
  if (weight <= 0) return 0;
  BytePrices weighted{at.prices, at.host / step.host_per_s / weight};
  for (double& price : weighted.held) price /= weight;
  double sum = step.fixed_s;
  for (const StageRelaxation& stage : step.stages)
    sum += static_cast<double>(stage.layers) * price_stage(stage, weighted).floor_s;
  sum *= weight;
  for (size_t unit = 0; unit < at.prices.size(); ++unit)
    if (std::isfinite(budget_bytes[unit])) sum -= at.prices[unit] * budget_bytes[unit];
  return sum;
}

/// Seconds per byte above which no unit would be given anything it can do without: the whole step
/// on the slowest unit for the bytes of its smallest stage.
double highest_price(const StepRelaxation& step) {
  double seconds = 0, bytes = 0;
  for (const StageRelaxation& stage : step.stages) {
    double slowest = 0;
    for (const UnitCurve& curve : stage.curves) slowest = std::max(slowest, curve.seconds.back());
    seconds += static_cast<double>(stage.layers) * slowest;
    bytes += static_cast<double>(stage.layers * stage.blocks) * stage.block_bytes;
  }
  constexpr double kMargin = 4;  // a stage may cost more time per byte than the mean
  return kMargin * seconds / bytes;
}

/// The highest point of the dual along one multiplier: it is concave, so thirds are cut off.
template <class Value>
double highest_point(double highest, const Value& value) {
  double low = 0, high = highest;
  for (int i = 0; i < 24; ++i) {
    const double third = (high - low) / 3;
    if (value(low + third) < value(high - third))
      low += third;
    else
      high -= third;
  }
  return (low + high) / 2;
}

/// Sets one of the multipliers, which `of` finds, to what is best beside the others.
template <class Of>
void ascend(const StepRelaxation& step, std::span<const double> budget_bytes, double highest,
            Multipliers& at, const Of& of) {
  const double before = of(at);
  const auto value = [&](double multiplier) {
    of(at) = multiplier;
    return dual_s(step, at, budget_bytes);
  };
  const double found = highest_point(highest, value);
  if (value(found) < value(before))
    of(at) = before;
  else
    of(at) = found;
}

std::vector<double> normalised(std::vector<double> amounts) {
  const double sum = std::accumulate(amounts.begin(), amounts.end(), 0.0);
  for (double& amount : amounts) amount /= sum;
  return amounts;
}

}  // namespace

double floor_s(const StepRelaxation& step) {
  double sum = step.fixed_s;
  for (const StageRelaxation& stage : step.stages)
    sum += static_cast<double>(stage.layers) * stage.floor_s;
  return sum;
}

Dual best_dual(const StepRelaxation& step, std::span<const double> budget_bytes) {
  Multipliers at{std::vector(budget_bytes.size(), 0.0)};
  // The links' and the host's weights must leave the stages some.
  constexpr double kMostWeight = 0.99;
  const double highest = highest_price(step);
  constexpr int kSweeps = 3;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    if (std::isfinite(step.host_per_s))
      ascend(step, budget_bytes, kMostWeight, at, [](Multipliers& m) -> double& { return m.host; });
    for (size_t unit = 0; unit < budget_bytes.size(); ++unit) {
      if (!std::isfinite(budget_bytes[unit])) continue;
      const double most = may_stream(step, budget_bytes, unit)
                              ? at.host / step.host_per_s + kMostWeight / step.stream_per_s[unit]
                              : highest;
      ascend(step, budget_bytes, std::min(highest, most), at,
             [unit](Multipliers& m) -> double& { return m.prices[unit]; });
    }
  }
  // Multipliers of 0 give the bound without budgets, which holds as well.
  return {std::max(floor_s(step), dual_s(step, at, budget_bytes)), at.prices};
}

OpShares priced_shares(const StepRelaxation& step, std::span<const double> prices) {
  const auto of = [&](Stage wanted) {
    const StageRelaxation* most = nullptr;
    for (const StageRelaxation& stage : step.stages)
      if (stage.stage == wanted && (!most || stage.layers > most->layers)) most = &stage;
    return normalised(price_stage(*most, {{prices.begin(), prices.end()}}).division.blocks);
  };
  return {of(Stage::kQkv), of(Stage::kOut), of(Stage::kGateUp), of(Stage::kDown),
          of(Stage::kLmHead)};
}

}  // namespace tandem
