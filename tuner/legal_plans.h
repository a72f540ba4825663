// Plans that are legal for a model without asking whether they are fast: baselines and random ones
// for tests.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "sim/model_spec.h"
#include "sim/plan.h"

namespace tandem {

/// Every op split evenly over the units (heads likewise, largest remainder).
Plan even_plan(const ModelSpec& model, const std::vector<std::string>& units);

struct RandomPlanOptions {
  bool columns = true;         ///< random shares per op, some of them 0
  bool heads = true;           ///< kv heads dealt out at random
  bool positions = true;       ///< some heads cut by position, and between context and new tokens
  int64_t max_context = 1024;  ///< cuts lie below it
  bool layer_groups = true;    ///< layers fall in groups with different splits
  bool phases = true;          ///< prefill and decode may differ (homes do not)
  uint64_t can_stream = 0;     ///< bit u: unit u may have streamed columns
};
/// Passes check_plan. The same generator state gives the same plan.
Plan random_plan(const ModelSpec& model, const std::vector<std::string>& units,
                 std::mt19937_64& random, const RandomPlanOptions& options = {});

}  // namespace tandem
