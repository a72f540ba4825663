#include "tuner/budget_search.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>

#include "tuner/plan_units.h"

namespace tandem {
namespace {

using Shares = std::vector<double>;

/// Shares that use up all budgets alike; units without one share what those with one are spared.
Shares easiest_shares(const std::vector<double>& room) {
  const bool all_limited =
      std::all_of(room.begin(), room.end(), [](double r) { return std::isfinite(r); });
  Shares shares;
  for (const double r : room)
    shares.push_back(all_limited ? std::max(r, 0.0) : (std::isfinite(r) ? 0.0 : 1.0));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share = sum > 0 ? share / sum : 1 / static_cast<double>(room.size());
  return shares;
}

class LimitedSearch {
 public:
  LimitedSearch(const SearchSpace& space, const MemoryLimits& limits, const Scorer& scorer)
      : space_(space), limits_(limits), scorer_(scorer) {}

  /// Of the plans from here on: it cannot be split.
  void put_embedding(size_t unit) { embedding_ = static_cast<int>(unit); }

  Plan plan(const OpShares& shares) const {
    Plan plan = plan_by_shares(space_.model, space_.units, shares);
    plan.embedding = embedding_;
    return plan;
  }

  /// The first plan on the way from `from` to `to` that fits becomes the best if it is faster.
  void consider(const OpShares& from, const OpShares& to) {
    const auto at = [&](double way) { return plan(blend(from, to, way)); };
    double misfit = 0, fit = 1;
    if (!limits_.hold(at(fit))) return;
    if (limits_.hold(at(misfit))) fit = 0;
    for (int i = 0; i < 20 && fit > misfit; ++i) {
      const double middle = (misfit + fit) / 2;
      (limits_.hold(at(middle)) ? fit : misfit) = middle;
    }
    Plan found = without_idle_units(at(fit));
    // An idle unit may hold what the others have no room for.
    if (!limits_.hold(found)) found = at(fit);
    ScoredPlan scored = scorer_.score("planned", std::move(found));
    if (!best_ || request_s(scored.candidate) < request_s(best_->candidate))
      best_ = std::move(scored);
  }

  std::optional<ScoredPlan> best() && { return std::move(best_); }

 private:
  const SearchSpace& space_;
  const MemoryLimits& limits_;
  const Scorer& scorer_;
  int embedding_ = 0;
  std::optional<ScoredPlan> best_;
};

std::vector<double> scaled(std::vector<double> prices, double factor) {
  for (double& price : prices) price *= factor;
  return prices;
}

/// Limits less what shares hardly change: workspaces, and the table of embedding rows where a plan
/// that divides everything reads them from one.
std::vector<double> room_for_shares(const Scorer& scorer, const Plan& divided,
                                    std::vector<double> limit_bytes) {
  const std::vector<MemoryUse> memory = scorer.memory(divided);
  for (size_t unit = 0; unit < limit_bytes.size(); ++unit)
    limit_bytes[unit] -= static_cast<double>(memory[unit].workspace);
  limit_bytes[static_cast<size_t>(divided.embedding)] -=
      static_cast<double>(scorer.embedding_bytes(divided));
  return limit_bytes;
}

/// All ops alike.
OpShares uniform(const Shares& shares) { return {shares, shares, shares, shares, shares}; }

}  // namespace

LimitedPlan search_within_limits(const SearchSpace& space, const StepRelaxation& step,
                                 const MemoryLimits& limits, const Scorer& scorer) {
  LimitedSearch search(space, limits, scorer);
  // At the dual's prices a stage is indifferent between shares; a little less or more decides it
  // one way or the other, and the limit lies between the two.
  const OpShares cheap = priced_shares(step, scaled(limits.prices, 0.95));
  const OpShares dear = priced_shares(step, scaled(limits.prices, 1.05));
  const Shares even(space.units.size(), 1 / static_cast<double>(space.units.size()));
  std::optional<OpShares> nearest;
  for (size_t unit = 0; unit < space.units.size(); ++unit) {
    search.put_embedding(unit);
    const OpShares easiest =
        uniform(easiest_shares(room_for_shares(scorer, search.plan(uniform(even)), limits.bytes)));
    if (!nearest) nearest = easiest;
    for (const auto& [from, to] :
         {std::pair(cheap, dear), std::pair(cheap, easiest), std::pair(dear, easiest)})
      search.consider(from, to);
  }
  return {std::move(search).best(), search.plan(*nearest)};
}

}  // namespace tandem
