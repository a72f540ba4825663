// The placement that most engines offer, to compare with: whole layers on the units with budgets,
// as many as fit, the rest on another unit.
#pragma once

#include <optional>

#include "tuner/scoring.h"

namespace tandem {

/// Units with a budget take the first layers, in order of units; `rest` takes the others and the
/// embedding. The output head goes to the last unit with a budget where it fits and is faster
/// there. None where not even that fits.
std::optional<ScoredPlan> layer_granular(const ModelSpec& model,
                                         const std::vector<std::string>& units,
                                         const SearchOptions& options, int rest,
                                         const Scorer& scorer);

}  // namespace tandem
