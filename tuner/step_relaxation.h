// A decode step without what couples its units: lower bounds on every plan, with and without memory
// budgets.
#pragma once

#include <limits>
#include <span>
#include <vector>

#include "tuner/shares.h"
#include "tuner/stage_relaxation.h"

namespace tandem {

struct StepRelaxation {
  std::vector<StageRelaxation> stages;
  double fixed_s = 0;                ///< embedding and sampling on the unit that is fastest at it
  std::vector<double> stream_per_s;  ///< [unit] bytes/s of its link; 0 = it does not stream
  /// Bytes/s that no units and links together draw from the host's memory; infinite where nothing
  /// is streamed: then each stage's floor says so.
  double host_per_s = std::numeric_limits<double>::infinity();
};

/// No plan's step is faster, whatever memory it needs.
double floor_s(const StepRelaxation& step);

/// The Lagrangian dual of the budgets: bytes are priced instead of limited, so that stages are
/// independent, and for any prices >= 0 the sum of the stages' floors less the price of the budgets
/// lies under every plan that keeps them and has one split for all phases. (Fisher 1981, The
/// Lagrangian relaxation method, sec. 2)
///
/// A unit that streams need not hold a column: it may pay with time of its link instead, since a
/// step takes at least as long as the copies over each link. And it takes at least as long as the
/// host's memory needs for what is copied from it and what units compute from it where it lies. The
/// step is at least any mean of the sum of its stages and of such times. Where the host's weight is
/// h, a byte drawn from it costs h over its rate; where a link's is m, a streamed byte costs m over
/// the link's rate beside that. Nobody takes the dearer of two ways, so a byte on a unit that
/// streams has one price whether it is held or streamed.
struct Dual {
  double bound_s = 0;
  std::vector<double> prices;  ///< [unit] seconds per byte at which the bound is highest
};
/// `budget_bytes` [unit], infinite where there is none.
Dual best_dual(const StepRelaxation& step, std::span<const double> budget_bytes);

/// What each stage's units get where bytes cost so much; where layers differ, the shares of the
/// most frequent kind.
OpShares priced_shares(const StepRelaxation& step, std::span<const double> prices);

}  // namespace tandem
