// A stage without what couples its units (hand-offs, fair sharing, whole heads): a floor under
// every split of it.
#pragma once

#include <span>
#include <vector>

#include "tuner/unit_curve.h"

namespace tandem {

/// Attention of a unit, from below: `cells` kv heads x positions take it at least
/// max(least_s, cells * seconds_per_cell), however they are cut into parts.
struct AttentionFloor {
  double least_s = 0;
  double seconds_per_cell = 0;
};

/// Blocks (columns or heads) and, for attention, cells that units divide freely between them.
struct StageRelaxation {
  Stage stage = Stage::kOut;      ///< kQkv stands for qkv and attention together
  int64_t layers = 1;             ///< that have this stage
  std::vector<UnitCurve> curves;  ///< [unit]
  int64_t blocks = 0;
  double block_bytes = 0;                 ///< of weights, as the file counts them
  std::vector<double> block_draw;         ///< [unit] fewest bytes of the host's memory for a block
  std::vector<AttentionFloor> attention;  ///< [unit]; empty for the other stages
  double cells = 0;
  double new_cells = 0;   ///< of `cells`, those of new tokens: who attends them need not keep them
  double cell_bytes = 0;  ///< of keys and values that stay on the unit
  std::vector<double> cell_draw;  ///< [unit] fewest bytes of the host's memory for a cell
  double floor_s = 0;             ///< no split is faster
};

/// The most bytes/s that any of the lanes (see CostModel) draw from their one memory together.
double most_together_per_s(const CostModel& cost, std::span<const int> lanes);

StageRelaxation relax_columns(StagePricer& pricer, Stage stage, int64_t layers);
StageRelaxation relax_attention(StagePricer& pricer, int64_t layers);

/// How much of a stage each unit has.
struct Division {
  std::vector<double> blocks, cells;  ///< [unit]
};
/// What bytes cost, in seconds of the step.
struct BytePrices {
  std::vector<double> held;  ///< [unit] for each byte that lies in its memory
  double host = 0;           ///< for each byte that is drawn from the host's memory
};
/// A stage where bytes have prices.
struct PricedStage {
  double floor_s = 0;  ///< no division is cheaper: stage time + price of the bytes, one layer
  Division division;   ///< one that is about as cheap
};
PricedStage price_stage(const StageRelaxation& stage, const BytePrices& prices);

}  // namespace tandem
