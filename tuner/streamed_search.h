// Plans in which CUDA units stream what their budgets have no room for.
#pragma once

#include <optional>

#include "tuner/budget_search.h"

namespace tandem {

/// Bit u: unit u of the space has a budget and can stream.
uint64_t units_that_may_stream(const SearchSpace& space);

/// The fastest of plans that keep the limits: the units' shares lie on a line from what is fastest
/// without budgets to nothing for those that stream; of its share each of these keeps as much
/// resident as fits, the same part of every op, and streams the rest. Prefill has a phase of its
/// own, where they stream all that others compute in decode: arithmetic is what others lack. None
/// where nothing fits, or no unit may stream.
std::optional<ScoredPlan> search_streamed(const SearchSpace& space, const StepRelaxation& step,
                                          const MemoryLimits& limits, const Scorer& scorer);

}  // namespace tandem
