#include "tuner/step_relaxation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem {
namespace {

bool may_stream(const StepRelaxation& step, std::span<const double> budget_bytes, size_t unit) {
  return std::isfinite(budget_bytes[unit]) && step.stream_per_s[unit] > 0;
}

/// What is left of the weight of the stages' times when every unit's link has its own.
double stage_weight(const StepRelaxation& step, std::span<const double> prices,
                    std::span<const double> budget_bytes) {
  double weight = 1;
  for (size_t unit = 0; unit < prices.size(); ++unit)
    if (may_stream(step, budget_bytes, unit)) weight -= prices[unit] * step.stream_per_s[unit];
  return weight;
}

double dual_s(const StepRelaxation& step, std::span<const double> prices,
              std::span<const double> budget_bytes) {
  const double weight = stage_weight(step, prices, budget_bytes);
  std::vector<double> weighted;
  for (const double price : prices) weighted.push_back(price / weight);
  double sum = step.fixed_s;
  for (const StageRelaxation& stage : step.stages)
    sum += static_cast<double>(stage.layers) * price_stage(stage, weighted).floor_s;
  sum *= weight;
  for (size_t unit = 0; unit < prices.size(); ++unit)
    if (std::isfinite(budget_bytes[unit])) sum -= prices[unit] * budget_bytes[unit];
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

/// The highest point of the dual along one unit's price: it is concave, so thirds are cut off.
void ascend(const StepRelaxation& step, std::span<const double> budget_bytes, size_t unit,
            double highest, std::vector<double>& prices) {
  const auto value = [&](double price) {
    prices[unit] = price;
    return dual_s(step, prices, budget_bytes);
  };
  double low = 0, high = highest;
  for (int i = 0; i < 24; ++i) {
    const double third = (high - low) / 3;
    if (value(low + third) < value(high - third))
      low += third;
    else
      high -= third;
  }
  prices[unit] = (low + high) / 2;
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
  Dual dual;
  dual.prices.assign(budget_bytes.size(), 0.0);
  const double highest = highest_price(step);
  // The links' weights must leave the stages some.
  constexpr double kMostOfLinks = 0.95;
  double links = 0;
  for (size_t unit = 0; unit < budget_bytes.size(); ++unit)
    links += may_stream(step, budget_bytes, unit);
  for (int sweep = 0; sweep < 2; ++sweep)
    for (size_t unit = 0; unit < budget_bytes.size(); ++unit) {
      if (!std::isfinite(budget_bytes[unit])) continue;
      const double most = may_stream(step, budget_bytes, unit)
                              ? kMostOfLinks / (links * step.stream_per_s[unit])
                              : highest;
      ascend(step, budget_bytes, unit, std::min(highest, most), dual.prices);
    }
  // Prices of 0 give the bound without budgets, which holds as well.
  dual.bound_s = std::max(floor_s(step), dual_s(step, dual.prices, budget_bytes));
  return dual;
}

OpShares priced_shares(const StepRelaxation& step, std::span<const double> prices) {
  const auto of = [&](Stage wanted) {
    const StageRelaxation* most = nullptr;
    for (const StageRelaxation& stage : step.stages)
      if (stage.stage == wanted && (!most || stage.layers > most->layers)) most = &stage;
    return normalised(price_stage(*most, prices).division.blocks);
  };
  return {of(Stage::kQkv), of(Stage::kOut), of(Stage::kGateUp), of(Stage::kDown),
          of(Stage::kLmHead)};
}

}  // namespace tandem
