// The best split of one stage among given units: every aligned cut for two of them, bisection for
// more.
#pragma once

#include <cstdint>
#include <vector>

#include "tuner/stage_pricer.h"

namespace tandem {

/// Units that work on a stage, ascending.
using UnitSet = std::vector<int>;

/// The sets that a search tries: all of up to three units, beyond that each single one and all of
/// them (a unit that does not pay gets next to nothing by bisection).
std::vector<UnitSet> unit_sets(int num_units);

/// Slowest hand-off from a unit of one set to another unit of the next: what an exchange between
/// two stages costs.
double exchange_s(const CostModel& cost, const UnitSet& from, const UnitSet& to);

struct LinearChoice {
  double seconds = 0;  ///< infinity where the stage has fewer blocks than the set has units
  LinearSplit split;
};
/// The fastest split in which every unit of the set has columns, in order of units.
LinearChoice best_linear(StagePricer& pricer, Stage stage, const UnitSet& units);

/// A placement of a layer's heads. Homes of positions are the same in all phases, so decode and
/// prefill share it.
struct AttentionChoice {
  double decode_s = 0;   ///< infinity where there are fewer heads than units
  double prefill_s = 0;  ///< 0 where none is planned
  std::vector<AttentionPart> parts;
};
/// The placement with the least decode_weight * decode_s + prefill_s: runs of heads in order of
/// units and, for two units, one head cut at a position or between context and new tokens.
/// `prefill` may be null.
AttentionChoice best_attention(StagePricer& decode, StagePricer* prefill, double decode_weight,
                               const UnitSet& units);

}  // namespace tandem
