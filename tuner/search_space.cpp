#include "tuner/search_space.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "runtime/executor.h"
#include "runtime/generate.h"
#include "tuner/layer_search.h"

namespace tandem {
namespace {

bool same_dtypes(const LayerDTypes& a, const LayerDTypes& b) {
  return std::tie(a.q, a.k, a.v, a.out, a.gate, a.up, a.down) ==
         std::tie(b.q, b.k, b.v, b.out, b.gate, b.up, b.down);
}

StagePricer pricer(const SearchSpace& space, const LayerClass& layers, const Step& step) {
  return {space.model, layers.runs.front().begin, space.units, space.options.kv_dtype, step,
          space.cost};
}

void add_runs(std::vector<LayerPlan>& layers, const LayerClass& of, LayerPlan plan) {
  for (const Range run : of.runs) {
    plan.layers = run;
    layers.push_back(plan);
  }
}

void sort_layers(std::vector<LayerPlan>& layers) {
  std::sort(layers.begin(), layers.end(),
            [](const LayerPlan& a, const LayerPlan& b) { return a.layers.begin < b.layers.begin; });
}

int most_columns(const LinearSplit& split) {
  return std::max_element(split.begin(), split.end(),
                          [](const ColumnShare& a, const ColumnShare& b) {
                            return a.columns.size() < b.columns.size();
                          })
      ->unit;
}

/// Seconds of embedding and sampling on the units that are fastest at it.
double fixed_s(const SearchSpace& space) {
  double embed = std::numeric_limits<double>::infinity(), sample = embed;
  for (size_t unit = 0; unit < space.units.size(); ++unit) {
    const Plan plan = single_unit_plan(space.model, space.units, static_cast<int>(unit));
    for (const Task& task : lower(space.model, plan, decode_step(space.options.workload)).tasks) {
      if (task.stage == Stage::kEmbed) embed = std::min(embed, space.cost.cost(task).seconds);
      if (task.stage == Stage::kSample) sample = std::min(sample, space.cost.cost(task).seconds);
    }
  }
  return embed + sample;
}

}  // namespace

Step decode_step(const Workload& workload) {
  return {.tokens = workload.tokens,
          .context = workload.context,
          .logits_rows = workload.tokens,
          .parents = {}};
}

std::vector<Step> prefill_steps(const Workload& workload) {
  if (workload.prompt == 0) return {};
  return prefill_steps(workload.prompt, ExecutorOptions{}.max_tokens, 0);
}

int64_t LayerClass::count() const {
  int64_t layers = 0;
  for (const Range run : runs) layers += run.size();
  return layers;
}

std::vector<LayerClass> layer_classes(const ModelSpec& model) {
  std::vector<LayerClass> classes;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    const auto found = std::find_if(classes.begin(), classes.end(), [&](const LayerClass& c) {
      return same_dtypes(model.layers[static_cast<size_t>(c.runs.front().begin)],
                         model.layers[static_cast<size_t>(layer)]);
    });
    if (found == classes.end())
      classes.push_back({{{layer, layer + 1}}});
    else if (found->runs.back().end == layer)
      found->runs.back().end = layer + 1;
    else
      found->runs.push_back({layer, layer + 1});
  }
  return classes;
}

int64_t first_prefill_tokens(int64_t decode, int64_t prefill) {
  const double middle = std::sqrt(static_cast<double>(decode) * static_cast<double>(prefill));
  return std::clamp(static_cast<int64_t>(std::llround(middle)), decode + 1, prefill);
}

Plan free_plan(const SearchSpace& space) {
  const Step decode = decode_step(space.options.workload);
  const std::vector<Step> steps = prefill_steps(space.options.workload);
  const bool own_prefill = !steps.empty() && steps.front().tokens > decode.tokens;
  Phase decoding, prefilling;
  UnitSet last;
  for (const LayerClass& layers : layer_classes(space.model)) {
    StagePricer decode_pricer = pricer(space, layers, decode);
    StagePricer prefill_pricer = pricer(space, layers, own_prefill ? steps.front() : decode);
    const LayerChoice choice = choose_layer(decode_pricer, own_prefill ? &prefill_pricer : nullptr);
    add_runs(decoding.layers, layers, choice.decode);
    add_runs(prefilling.layers, layers, choice.prefill);
    if (last.empty()) decoding.lm_head = choose_lm_head(decode_pricer, choice.decode_ends_with);
    last = choice.decode_ends_with;
  }
  // A prefill has one row of logits, as a decode step has.
  prefilling.lm_head = decoding.lm_head;
  for (Phase* phase : {&decoding, &prefilling}) sort_layers(phase->layers);
  Plan plan = single_unit_plan(space.model, space.units, most_columns(decoding.lm_head));
  plan.phases = {decoding};
  if (decoding == prefilling) return plan;
  const int64_t first = first_prefill_tokens(decode.tokens, steps.front().tokens);
  plan.phases.front().tokens = {1, first};
  prefilling.tokens = {first, kOpenEnd};
  plan.phases.push_back(std::move(prefilling));
  return plan;
}

/// The most that any units and links of the host's memory were measured, or are taken, to draw from
/// it at once; infinite where nothing is streamed.
double host_per_s(const SearchSpace& space) {
  const CostModel& cost = space.cost;
  const int units = static_cast<int>(space.units.size());
  std::vector<int> lanes;
  bool streams = false;
  for (int unit = 0; unit < units; ++unit) {
    if (cost.memory_of(unit) == cost.memory_of(units)) lanes.push_back(unit);
    if (cost.stream_per_s(unit) <= 0) continue;
    lanes.push_back(units + unit);
    streams = true;
  }
  return streams ? most_together_per_s(cost, lanes) : std::numeric_limits<double>::infinity();
}

StepRelaxation relax_decode(const SearchSpace& space) {
  StepRelaxation step;
  step.fixed_s = fixed_s(space);
  for (int unit = 0; unit < static_cast<int>(space.units.size()); ++unit)
    step.stream_per_s.push_back(space.cost.stream_per_s(unit));
  step.host_per_s = host_per_s(space);
  const Step decode = decode_step(space.options.workload);
  for (const LayerClass& layers : layer_classes(space.model)) {
    StagePricer prices = pricer(space, layers, decode);
    if (step.stages.empty()) step.stages.push_back(relax_columns(prices, Stage::kLmHead, 1));
    step.stages.push_back(relax_attention(prices, layers.count()));
    for (const Stage stage : {Stage::kOut, Stage::kGateUp, Stage::kDown})
      step.stages.push_back(relax_columns(prices, stage, layers.count()));
  }
  // Alone, a kernel may read faster than bare reads do.
  for (const StageRelaxation& stage : step.stages)
    for (size_t unit = 0; unit < stage.curves.size(); ++unit)
      if (stage.block_draw[unit] > 0)
        step.host_per_s = std::max(step.host_per_s, stage.curves[unit].most_per_s);
  return step;
}

}  // namespace tandem
