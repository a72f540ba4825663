// Plans within memory budgets: the Lagrangian's shares, moved as little as it takes towards shares
// that fit.
#pragma once

#include <optional>

#include "tuner/scoring.h"
#include "tuner/step_relaxation.h"

namespace tandem {

struct BudgetedPlan {
  std::optional<ScoredPlan> best;  ///< none where nothing fits
  Plan nearest;                    ///< the plan that goes easiest on the budgets, for the message
  double lower_bound_s = 0;
};

/// One split serves all phases, since a second one would be resident beside it. `budget_bytes`
/// [unit], infinite where there is none.
BudgetedPlan search_within_budgets(const ModelSpec& model, const std::vector<std::string>& units,
                                   const std::vector<double>& budget_bytes,
                                   const StepRelaxation& step, const Scorer& scorer);

}  // namespace tandem
