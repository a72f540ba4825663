// Chooses the splits of all stages of one layer together, since a change of units between two
// stages costs a hand-off.
#pragma once

#include <vector>

#include "tuner/stage_choice.h"

namespace tandem {

/// A request is planned as its prompt and so many decode steps: what one placement of keys and
/// values must serve.
inline constexpr double kPlannedDecodeSteps = 128;

/// Splits of one layer, without its range of layers.
struct LayerChoice {
  LayerPlan decode;
  LayerPlan prefill;         ///< equal attention; all equal where no prefill is planned
  UnitSet decode_ends_with;  ///< units of decode's last stage
};

/// Least kPlannedDecodeSteps decode steps and one prefill. `prefill` may be null.
LayerChoice choose_layer(StagePricer& decode, StagePricer* prefill);

/// lm_head of a decode step behind a layer that ends with these units.
LinearSplit choose_lm_head(StagePricer& decode, const UnitSet& before);

}  // namespace tandem
