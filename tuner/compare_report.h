// Predicted beside measured for many plans: errors, the best of both, the regret between them.
#pragma once

#include <string>
#include <vector>

#include "tuner/cli.h"
#include "tuner/trial.h"

namespace tandem {

/// One timed trial.
struct ComparePoint {
  Trial trial;
  TrialPrediction predicted;
  TrialRuns runs;

  /// |predicted - measured| / measured.
  double error() const;
};

/// Points that can replace one another: one kind of step, different plans.
struct CompareGroup {
  TrialKind kind = TrialKind::kDecode;
  int64_t tokens = 1;
  int64_t context = 0;
  std::string predicted_best;
  std::string measured_best;
  double regret =
      0;  ///< measured time of the predicted best over that of the measured best, minus 1
};

struct CompareSummary {
  std::vector<CompareGroup> groups;  ///< those with two points or more
  double median_error = 0;           ///< over the points with a counted run
  double worst_error = 0;
  std::string worst;           ///< its label
  int64_t points = 0;          ///< with a counted run
  int64_t points_without = 0;  ///< no run of them counted: in no figure above
  int64_t runs_counted = 0;
  int64_t runs_left_out = 0;
};

CompareSummary summarize(const std::vector<ComparePoint>& points);

std::string compare_text(const std::vector<ComparePoint>& points, const CompareSummary& summary);
/// {points: [...], groups: [...], median_error, ...}
Json compare_json(const std::vector<ComparePoint>& points, const CompareSummary& summary);
/// The same as YAML, a line per point.
std::string compare_yaml(const Json& json);

}  // namespace tandem
