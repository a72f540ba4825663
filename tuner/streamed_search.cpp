#include "tuner/streamed_search.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tuner/plan_units.h"

namespace tandem {
namespace {

using Shares = std::vector<double>;

/// f of every op.
template <class Function>
OpShares each_op(const OpShares& shares, const Function& f) {
  return {f(shares.heads), f(shares.out), f(shares.gate_up), f(shares.down), f(shares.lm_head)};
}

class StreamedSearch {
 public:
  StreamedSearch(const SearchSpace& space, const StepRelaxation& step, const MemoryLimits& limits,
                 const Scorer& scorer)
      : space_(space), limits_(limits), scorer_(scorer) {
    const uint64_t streaming = units_that_may_stream(space);
    // First those that stream, so that the columns behind theirs are together.
    for (const bool streams : {true, false}) {
      for (size_t unit = 0; unit < space.units.size(); ++unit)
        if ((streaming >> unit & 1) == streams) order_.push_back(unit);
      if (streams) num_streaming_ = order_.size();
    }
    for (const size_t unit : order_) names_.push_back(space.units[unit]);
    const Shares free_of_charge(order_.size(), 0.0);
    most_ = each_op(priced_shares(step, free_of_charge), [&](const Shares& shares) {
      Shares ordered;
      for (const size_t unit : order_) ordered.push_back(shares[unit]);
      return ordered;
    });
    least_ = each_op(most_, [&](const Shares& shares) { return without_streaming(shares); });
  }

  std::optional<ScoredPlan> run() && {
    if (num_streaming_ == 0) return std::nullopt;
    constexpr int kPoints = 6, kHalvings = 3;
    for (int i = 0; i <= kPoints; ++i) consider(static_cast<double>(i) / kPoints);
    double step = 0.5 / kPoints;
    for (int i = 0; i < kHalvings; ++i, step /= 2)
      for (const double way : {best_way_ - step, best_way_ + step})
        if (way >= 0 && way <= 1) consider(way);
    keep(decode_plan(best_way_), best_way_);
    return std::move(best_);
  }

 private:
  Shares without_streaming(Shares shares) const {
    const auto others = shares.begin() + static_cast<std::ptrdiff_t>(num_streaming_);
    if (others == shares.end()) return shares;
    const double sum = std::accumulate(others, shares.end(), 0.0);
    const double even = 1 / static_cast<double>(shares.end() - others);
    std::fill(shares.begin(), others, 0.0);
    std::transform(others, shares.end(), others,
                   [&](double share) { return sum > 0 ? share / sum : even; });
    return shares;
  }

  void consider(double way) { keep(with_streamed_prefill(decode_plan(way)), way); }

  void keep(Plan plan, double way) {
    plan = without_idle_units(std::move(plan));
    if (!limits_.hold(plan)) return;
    ScoredPlan scored = scorer_.score("planned", std::move(plan));
    if (best_ && request_s(scored.candidate) >= request_s(best_->candidate)) return;
    best_way_ = way;
    best_ = std::move(scored);
  }

  /// One phase, as much of it resident as fits.
  Plan decode_plan(double way) const {
    const OpShares shares = blend(most_, least_, way);
    Shares resident(num_streaming_, 0.0);
    for (size_t unit = 0; unit < num_streaming_; ++unit)
      resident[unit] = most_resident(shares, resident, unit);
    return plan(shares, resident);
  }

  /// The largest part of a unit's columns that its limit has room for. What others hold does not
  /// matter to it.
  double most_resident(const OpShares& shares, Shares resident, size_t unit) const {
    const auto fits = [&](double part) {
      resident[unit] = part;
      const MemoryUse use = scorer_.memory(plan(shares, resident))[unit];
      return static_cast<double>(use.weights + use.kv + use.workspace) <=
             limits_.bytes[order_[unit]];
    };
    double fit = 0, misfit = 1;
    if (fits(misfit)) return misfit;
    for (int i = 0; i < 10; ++i) {
      const double middle = (fit + misfit) / 2;
      (fits(middle) ? fit : misfit) = middle;
    }
    return fit;
  }

  Plan plan(const OpShares& shares, const Shares& resident) const {
    const OpShares of_homes = each_op(shares, [&](const Shares& of_units) {
      Shares parts;
      for (size_t unit = 0; unit < of_units.size(); ++unit) {
        const double part = unit < num_streaming_ ? resident[unit] : 1;
        parts.insert(parts.end(), {of_units[unit] * part, of_units[unit] * (1 - part)});
      }
      return parts;
    });
    Plan plan = plan_by_shares(space_.model, names_, of_homes);
    // Its table counts as a unit's memory, so it goes to one without a budget.
    plan.embedding = num_streaming_ < names_.size() ? static_cast<int>(num_streaming_) : 0;
    return plan;
  }

  Plan with_streamed_prefill(Plan plan) const {
    const Workload& workload = space_.options.workload;
    const std::vector<Step> steps = prefill_steps(workload);
    if (steps.empty() || steps.front().tokens <= workload.tokens) return plan;
    const int64_t first = first_prefill_tokens(workload.tokens, steps.front().tokens);
    Phase prefill = plan.phases.front();
    for (LayerPlan& layer : prefill.layers)
      for (LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
        stream_rest(*split);
    plan.phases.front().tokens = {1, first};
    prefill.tokens = {first, kOpenEnd};
    plan.phases.push_back(std::move(prefill));
    return plan;
  }

  /// Columns of units that do not stream go to the last unit that does.
  void stream_rest(LinearSplit& split) const {
    const int last = static_cast<int>(num_streaming_) - 1;
    const int64_t columns = split.back().columns.end;
    std::erase_if(split, [&](const ColumnShare& share) { return share.unit > last; });
    const int64_t end = split.empty() ? 0 : split.back().columns.end;
    const bool extends =
        !split.empty() && split.back().unit == last && split.back().home == Home::kStreamed;
    if (extends)
      split.back().columns.end = columns;
    else if (end < columns)
      split.push_back({last, {end, columns}, Home::kStreamed});
  }

  const SearchSpace& space_;
  const MemoryLimits& limits_;
  const Scorer& scorer_;
  std::vector<size_t> order_;  ///< units of the space, those that stream first
  size_t num_streaming_ = 0;
  std::vector<std::string> names_;  ///< in this order
  OpShares most_, least_;           ///< of units in this order
  double best_way_ = 0;
  std::optional<ScoredPlan> best_;
};

}  // namespace

uint64_t units_that_may_stream(const SearchSpace& space) {
  uint64_t units = 0;
  for (size_t unit = 0; unit < space.units.size(); ++unit)
    if (space.cost.stream_per_s(static_cast<int>(unit)) > 0 &&
        space.options.budget_bytes.contains(space.units[unit]))
      units |= uint64_t{1} << unit;
  return units;
}

std::optional<ScoredPlan> search_streamed(const SearchSpace& space, const StepRelaxation& step,
                                          const MemoryLimits& limits, const Scorer& scorer) {
  return StreamedSearch(space, step, limits, scorer).run();
}

}  // namespace tandem
