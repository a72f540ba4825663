#include "tuner/search.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "tuner/budget_search.h"
#include "tuner/legal_plans.h"
#include "tuner/plan_units.h"
#include "tuner/search_space.h"

namespace tandem {
namespace {

/// Dividing a model must pay at least this much: less is within what a prediction can tell.
constexpr double kWorthDividing = 1.01;

/// Error for a unit the machine lacks.
std::vector<std::string> chosen_units(const MachineProfile& machine, const SearchOptions& options) {
  std::vector<std::string> all;
  for (const UnitProfile& profile : machine.units) all.push_back(profile.unit.name);
  for (const std::string& unit : options.units)
    if (std::find(all.begin(), all.end(), unit) == all.end())
      throw Error(fmt::format("unit {} is not one of machine {}: {}", unit, machine.machine.name,
                              fmt::join(all, ", ")));
  return options.units.empty() ? all : options.units;
}

std::vector<double> budgets(const std::vector<std::string>& units, const SearchOptions& options) {
  std::vector<double> bytes;
  for (const std::string& unit : units) {
    const auto budget = options.budget_bytes.find(unit);
    bytes.push_back(budget == options.budget_bytes.end() ? std::numeric_limits<double>::infinity()
                                                         : static_cast<double>(budget->second));
  }
  return bytes;
}

/// The fastest that fits, or null.
const ScoredPlan* fastest(const std::vector<ScoredPlan>& plans) {
  const ScoredPlan* best = nullptr;
  for (const ScoredPlan& plan : plans)
    if (plan.candidate.fits && (!best || request_s(plan.candidate) < request_s(best->candidate)))
      best = &plan;
  return best;
}

class Search {
 public:
  Search(const ModelSpec& model, const MachineProfile& machine, const SearchOptions& options)
      : model_(model),
        units_(chosen_units(machine, options)),
        options_(options),
        scorer_(model, machine, options),
        base_(scorer_.score("even", even_plan(model, units_))),
        cost_(model, machine, base_.plan),
        space_{model_, units_, options_, cost_} {}

  SearchResult run() {
    score_singles();
    const StepRelaxation relaxed = relax_decode(space_);
    lower_bound_s_ = floor_s(relaxed);
    if (units_.size() > 1) score_divided(relaxed);
    return result();
  }

 private:
  void score_singles() {
    for (const std::string& unit : units_)
      // A plan of its own, so that no idle unit is driven beside it.
      singles_.push_back(scorer_.score(unit + " alone", single_unit_plan(model_, {unit}, 0)));
  }

  void score_divided(const StepRelaxation& relaxed) {
    ScoredPlan planned = scorer_.score("planned", without_idle_units(free_plan(space_)));
    if (!planned.candidate.fits) {
      BudgetedPlan within =
          search_within_budgets(model_, units_, budgets(units_, options_), relaxed, scorer_);
      lower_bound_s_ = within.lower_bound_s;
      nearest_ = within.nearest;
      if (within.best) planned = std::move(*within.best);
    }
    divided_ = {std::move(planned), base_};
  }

  SearchResult result() const {
    const ScoredPlan* single = fastest(singles_);
    const ScoredPlan* divided = fastest(divided_);
    if (!single && !divided)
      throw Error(
          fmt::format("no plan of {} fits: {}; raise the budget, or lower the context", model_.name,
                      scorer_.memory_table(divided_.empty() ? singles_.front().plan : nearest_)));
    const bool divide = divided && (!single || request_s(single->candidate) >
                                                   kWorthDividing * request_s(divided->candidate));
    SearchResult result;
    result.plan = (divide ? divided : single)->plan;
    result.plan.predicted = scorer_.predict(result.plan, lower_bound_s_);
    result.candidates = candidates();
    result.verdict = verdict(single, divided, divide);
    result.warnings = scorer_.warnings(result.plan);
    return result;
  }

  /// The plan, every single unit, the even split.
  std::vector<Candidate> candidates() const {
    std::vector<Candidate> all;
    if (!divided_.empty()) all.push_back(divided_.front().candidate);
    for (const ScoredPlan& single : singles_) all.push_back(single.candidate);
    if (!divided_.empty()) all.push_back(divided_.back().candidate);
    return all;
  }

  std::string verdict(const ScoredPlan* single, const ScoredPlan* divided, bool divide) const {
    if (!divided)
      return single->candidate.name +
             (units_.size() == 1 ? ": the only unit" : ": no division of the model fits");
    const std::string units = fmt::format("{}", fmt::join(divided->plan.units, "+"));
    if (!single) return fmt::format("hybrid {}: no unit alone has the memory", units);
    const double speedup = request_s(single->candidate) / request_s(divided->candidate);
    if (divide) return fmt::format("hybrid {}, {:.2f}x {}", units, speedup, single->candidate.name);
    return fmt::format("{}: the best division of the model is {:.2f}x as fast",
                       single->candidate.name, speedup);
  }

  const ModelSpec& model_;
  const std::vector<std::string> units_;
  const SearchOptions& options_;
  const Scorer scorer_;
  const ScoredPlan base_;  ///< the even split
  const CostModel cost_;
  const SearchSpace space_;
  std::vector<ScoredPlan> singles_;  ///< [unit]
  std::vector<ScoredPlan> divided_;  ///< the searched plan and the even split; none for one unit
  Plan nearest_;
  double lower_bound_s_ = 0;
};

}  // namespace

SearchResult search(const ModelSpec& model, const MachineProfile& machine,
                    const SearchOptions& options) {
  return Search(model, machine, options).run();
}

}  // namespace tandem
