// Plans within limits of memory: the Lagrangian's shares, moved as little as it takes towards
// shares that fit.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "tuner/scoring.h"
#include "tuner/search_space.h"

namespace tandem {

/// What a plan may have of each unit's memory.
struct MemoryLimits {
  std::vector<double> bytes;              ///< [unit], infinite where there is none
  std::vector<double> prices;             ///< [unit] of best_dual() for them
  std::function<bool(const Plan&)> hold;  ///< whether a plan really keeps them
};

struct LimitedPlan {
  std::optional<ScoredPlan> best;  ///< none where nothing fits
  Plan nearest;                    ///< the plan that goes easiest on the limits, for the message
};

/// One split serves all phases, since a second one would be resident beside it.
LimitedPlan search_within_limits(const SearchSpace& space, const StepRelaxation& step,
                                 const MemoryLimits& limits, const Scorer& scorer);

}  // namespace tandem
