// What one stage of one layer costs under a given split: lowered like any plan, simulated alone.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "sim/cost.h"
#include "sim/model_spec.h"
#include "sim/plan.h"
#include "sim/task_graph.h"

namespace tandem {

/// The price of what cannot be: every other is lower.
inline constexpr double kImpossible = std::numeric_limits<double>::infinity();

/// The four stages that are split by columns alone.
inline constexpr std::array<Stage, 4> kLinearStages{Stage::kOut, Stage::kGateUp, Stage::kDown,
                                                    Stage::kLmHead};
/// Output columns of one of them.
int64_t stage_columns(const ModelSpec& model, Stage stage);
/// Columns that a cut of the stage falls on multiples of: qkv is cut between kv heads.
int64_t stage_align(const ModelSpec& model, Stage stage);

/// Prices the stages of a layer for one kind of step. Splits are lowered in a model of that one
/// layer, so what work they mean is said in one place; all units of a stage start at once, as they
/// do behind an exchange.
class StagePricer {
 public:
  /// `cost` outlives the pricer and was made for these units in this order.
  StagePricer(const ModelSpec& model, int64_t layer, const std::vector<std::string>& units,
              DType kv_dtype, const Step& step, const CostModel& cost);

  /// Makespan of out, gate_up, down or lm_head.
  double linear_s(Stage stage, const LinearSplit& split);
  /// From the layer's input to merged heads: qkv that follows the heads, attention, merges, and
  /// hand-offs between them.
  double attention_s(const std::vector<AttentionPart>& parts);
  /// The stage's task when `unit` computes `columns` columns of it and nothing disturbs it.
  TaskCost alone(Stage stage, int unit, int64_t columns);
  /// The first task of a stage where all of the layer is on unit 0: for most stages the only one.
  Task whole_task(Stage stage) const;

  const ModelSpec& model() const { return model_; }
  const Step& step() const { return step_; }
  const CostModel& cost() const { return cost_; }
  int num_units() const { return static_cast<int>(plan_.units.size()); }

 private:
  LayerPlan& layer() { return plan_.phases.front().layers.front(); }
  LinearSplit& split_of(Stage stage);
  /// Tasks of the lowered plan whose stage is in [first, last], with only the dependencies among
  /// them.
  TaskGraph stages(Stage first, Stage last) const;

  ModelSpec model_;  ///< of one layer
  Step step_;
  const CostModel& cost_;
  Plan plan_;  ///< all on unit 0 but for what is priced
};

}  // namespace tandem
