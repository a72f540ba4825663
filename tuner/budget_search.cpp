#include "tuner/budget_search.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>

#include "tuner/plan_units.h"

namespace tandem {
namespace {

using Shares = std::vector<double>;

Shares blend(const Shares& a, const Shares& b, double towards_b) {
  Shares blended;
  for (size_t i = 0; i < a.size(); ++i) blended.push_back(a[i] + towards_b * (b[i] - a[i]));
  return blended;
}

OpShares blend(const OpShares& a, const OpShares& b, double towards_b) {
  return {blend(a.heads, b.heads, towards_b), blend(a.out, b.out, towards_b),
          blend(a.gate_up, b.gate_up, towards_b), blend(a.down, b.down, towards_b),
          blend(a.lm_head, b.lm_head, towards_b)};
}

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

class BudgetSearch {
 public:
  BudgetSearch(const ModelSpec& model, const std::vector<std::string>& units, const Scorer& scorer)
      : model_(model), units_(units), scorer_(scorer) {}

  /// Of the plans from here on: it cannot be split.
  void put_embedding(size_t unit) { embedding_ = static_cast<int>(unit); }

  Plan plan(const OpShares& shares) const {
    Plan plan = plan_by_shares(model_, units_, shares);
    plan.embedding = embedding_;
    return plan;
  }

  /// The first plan on the way from `from` to `to` that fits becomes the best if it is faster.
  void consider(const OpShares& from, const OpShares& to) {
    const auto at = [&](double way) { return plan(blend(from, to, way)); };
    double misfit = 0, fit = 1;
    if (!scorer_.fits(at(fit))) return;
    if (scorer_.fits(at(misfit))) fit = 0;
    for (int i = 0; i < 20 && fit > misfit; ++i) {
      const double middle = (misfit + fit) / 2;
      (scorer_.fits(at(middle)) ? fit : misfit) = middle;
    }
    ScoredPlan scored = scorer_.score("planned", without_idle_units(at(fit)));
    // An idle unit may hold what the others have no room for.
    if (!scored.candidate.fits) scored = scorer_.score("planned", at(fit));
    if (!best_ || request_s(scored.candidate) < request_s(best_->candidate))
      best_ = std::move(scored);
  }

  std::optional<ScoredPlan> best() && { return std::move(best_); }

 private:
  const ModelSpec& model_;
  const std::vector<std::string>& units_;
  int embedding_ = 0;
  const Scorer& scorer_;
  std::optional<ScoredPlan> best_;
};

std::vector<double> scaled(std::vector<double> prices, double factor) {
  for (double& price : prices) price *= factor;
  return prices;
}

}  // namespace

namespace {

/// Budgets less what no shares change: workspaces, and the embedding, which a tied head has among
/// its columns.
std::vector<double> room_for_shares(const ModelSpec& model, std::vector<double> budget_bytes,
                                    size_t embedding, const std::vector<UnitMemory>& memory) {
  for (size_t unit = 0; unit < budget_bytes.size(); ++unit)
    budget_bytes[unit] -= static_cast<double>(memory[unit].workspace);
  if (!model.tied_embedding)
    budget_bytes[embedding] -=
        static_cast<double>(model.vocab_size * row_bytes(model.embedding, model.hidden_size));
  return budget_bytes;
}

}  // namespace

BudgetedPlan search_within_budgets(const ModelSpec& model, const std::vector<std::string>& units,
                                   const std::vector<double>& budget_bytes,
                                   const StepRelaxation& step, const Scorer& scorer) {
  const Dual dual = best_dual(step, budget_bytes);
  BudgetSearch search(model, units, scorer);
  // At the dual's prices a stage is indifferent between shares; a little less or more decides it
  // one way or the other, and the budget lies between the two.
  const OpShares cheap = priced_shares(step, scaled(dual.prices, 0.95));
  const OpShares dear = priced_shares(step, scaled(dual.prices, 1.05));
  std::optional<OpShares> nearest;
  for (size_t unit = 0; unit < units.size(); ++unit) {
    search.put_embedding(unit);
    const Shares even = easiest_shares(
        room_for_shares(model, budget_bytes, unit, scorer.memory(search.plan(cheap))));
    const OpShares easiest{even, even, even, even, even};
    if (!nearest) nearest = easiest;
    for (const auto& [from, to] :
         {std::pair(cheap, dear), std::pair(cheap, easiest), std::pair(dear, easiest)})
      search.consider(from, to);
  }
  return {std::move(search).best(), search.plan(*nearest), dual.bound_s};
}

}  // namespace tandem
