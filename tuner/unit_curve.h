// A unit's time for a stage as a function of how much of it the unit takes: what bisection and
// bounds run on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tuner/stage_pricer.h"

namespace tandem {

/// Blocks are the pieces that cuts fall between: kColumnAlign columns, or a kv head of qkv.
struct UnitCurve {
  std::vector<double>
      seconds;  ///< [blocks + 1], never falling: no count of blocks is cheaper than any larger one
  double memory_per_block = 0;  ///< fewest bytes of memory demand that a block makes
  double most_per_s = 0;        ///< fastest draw on the memory, bytes/s

  /// Most blocks the unit ends within `limit_s`.
  int64_t most_within(double limit_s) const;
};

UnitCurve unit_curve(StagePricer& pricer, Stage stage, int unit);

/// The stage time to which bisection closes in: the units together can do all blocks within
/// `feasible_s` and cannot within anything below `infeasible_s`.
struct Balance {
  double infeasible_s = 0;
  double feasible_s = 0;
};
Balance balance(std::span<const UnitCurve> curves, int64_t blocks);

}  // namespace tandem
