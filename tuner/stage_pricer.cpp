#include "tuner/stage_pricer.h"

#include <algorithm>
#include <utility>

#include "sim/simulate.h"
#include "tuner/shares.h"

namespace tandem {
namespace {

ModelSpec one_layer(const ModelSpec& model, int64_t layer) {
  ModelSpec one = model;
  one.num_layers = 1;
  one.layers = {model.layers[static_cast<size_t>(layer)]};
  return one;
}

}  // namespace

int64_t stage_columns(const ModelSpec& model, Stage stage) {
  switch (stage) {
    case Stage::kQkv:
      return qkv_columns(model);
    case Stage::kGateUp:
      return model.intermediate_size;
    case Stage::kLmHead:
      return model.vocab_size;
    default:
      return model.hidden_size;
  }
}

int64_t stage_align(const ModelSpec& model, Stage stage) {
  return stage == Stage::kQkv ? model.qkv_columns_per_kv_head() : kColumnAlign;
}

StagePricer::StagePricer(const ModelSpec& model, int64_t layer,
                         const std::vector<std::string>& units, DType kv_dtype, const Step& step,
                         const CostModel& cost)
    : model_(one_layer(model, layer)),
      step_(step),
      cost_(cost),
      plan_(single_unit_plan(model_, units, 0)) {
  plan_.kv_dtype = kv_dtype;
}

LinearSplit& StagePricer::split_of(Stage stage) {
  switch (stage) {
    case Stage::kQkv:
      return layer().qkv;
    case Stage::kGateUp:
      return layer().gate_up;
    case Stage::kDown:
      return layer().down;
    case Stage::kLmHead:
      return plan_.phases.front().lm_head;
    default:
      return layer().out;
  }
}

TaskGraph StagePricer::stages(Stage first, Stage last) const {
  TaskGraph graph = lower(model_, plan_, step_);
  std::vector<int> new_id(graph.tasks.size(), -1);
  std::vector<Task> kept;
  for (Task& task : graph.tasks) {
    // Nothing is streamed here: copies run ahead, beside earlier stages.
    if (task.stage < first || task.stage > last) continue;
    new_id[static_cast<size_t>(task.id)] = static_cast<int>(kept.size());
    task.id = static_cast<int>(kept.size());
    for (int& dep : task.deps) dep = new_id[static_cast<size_t>(dep)];
    std::erase(task.deps, -1);
    kept.push_back(std::move(task));
  }
  graph.tasks = std::move(kept);
  return graph;
}

double StagePricer::linear_s(Stage stage, const LinearSplit& split) {
  LinearSplit& planned = split_of(stage);
  const LinearSplit before = std::exchange(planned, split);
  const double seconds = simulate(stages(stage, stage), cost_).makespan_s;
  planned = before;
  return seconds;
}

double StagePricer::attention_s(const std::vector<AttentionPart>& parts) {
  const LayerPlan before = layer();
  layer().attention = parts;
  layer().qkv = qkv_of_heads(model_, parts);
  const double seconds = simulate(stages(Stage::kQkv, Stage::kMerge), cost_).makespan_s;
  layer() = before;
  return seconds;
}

TaskCost StagePricer::alone(Stage stage, int unit, int64_t columns) {
  const int64_t all = stage_columns(model_, stage);
  const int other = unit == 0 ? num_units() - 1 : 0;
  LinearSplit& planned = split_of(stage);
  const LinearSplit before =
      std::exchange(planned, LinearSplit{{unit, {0, columns}}, {other, {columns, all}}});
  const TaskGraph graph = stages(stage, stage);
  planned = before;
  return cost_.cost(graph.tasks.front());
}

Task StagePricer::whole_task(Stage stage) const { return stages(stage, stage).tasks.front(); }

}  // namespace tandem
