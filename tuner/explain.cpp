#include "tuner/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "sim/simulate.h"
#include "tuner/format.h"

namespace tandem {
namespace {

/// Columns, or kv heads, of a whole op; 0 for those which one unit does.
int64_t size_of_op(const ModelSpec& model, Stage stage) {
  switch (stage) {
    case Stage::kQkv:
      return qkv_columns(model);
    case Stage::kAttention:
    case Stage::kMerge:
      return model.num_kv_heads;
    case Stage::kOut:
    case Stage::kDown:
      return model.hidden_size;
    case Stage::kGateUp:
      return model.intermediate_size;
    case Stage::kLmHead:
      return model.vocab_size;
    case Stage::kEmbed:
    case Stage::kSample:
    case Stage::kCommit:
      break;
  }
  return 0;
}

std::string describe(const Task& task, const LayerPlan* layers) {
  const std::string range = format_range(task.range);
  switch (task.stage) {
    case Stage::kEmbed:
      return "rows " + range;
    case Stage::kMerge:
      return "heads " + range;
    case Stage::kCommit:
      return "layers " + range;
    case Stage::kAttention: {
      const AttentionPart& part = layers->attention[static_cast<size_t>(task.part)];
      return fmt::format("heads {}, context {}{}", range, format_range(part.context),
                         part.new_tokens ? ", new" : "");
    }
    default:
      return range;
  }
}

/// Keeps apart what must not be summed: one row for each.
using RowKey = std::tuple<int64_t, Stage, int, int64_t, int>;

class Explainer {
 public:
  Explainer(const ModelSpec& model, const Plan& plan, const Step& step)
      : model_(model),
        phase_(phase_for(plan, step.tokens, step.context)),
        graph_(lower(model, plan, step)) {
    result_.step = step;
    result_.bytes_of_unit.resize(plan.units.size());
    for (const Task& task : graph_.tasks) add(task);
  }

  void add_times(const CostModel& cost, const std::vector<const UnitProfile*>& units) {
    const Timeline timeline = simulate(graph_, cost);
    result_.makespan_s = timeline.makespan_s;
    for (const Span& span : timeline.spans) {
      const Task& task = graph_.tasks[static_cast<size_t>(span.task)];
      ExplainedOp& op = rows_[key(task)];
      op.seconds += span.end_s - span.start_s;
      op.bound = bound(task, cost.cost(task), *units[static_cast<size_t>(task.unit)]);
    }
  }

  Explanation result() && {
    for (auto& [row_key, op] : rows_) result_.ops.push_back(std::move(op));
    return std::move(result_);
  }

 private:
  const LayerPlan* layers_of(const Task& task) const {
    return task.layer < 0 ? nullptr : &layer_plan(phase_, task.layer);
  }

  /// The embedding comes before the layers, all else outside them after.
  RowKey key(const Task& task) const {
    const LayerPlan* layers = layers_of(task);
    const int64_t first = layers                        ? layers->layers.begin
                          : task.stage == Stage::kEmbed ? -1
                                                        : model_.num_layers;
    return {first, task.stage, task.unit, task.range.begin, task.part};
  }

  void add(const Task& task) {
    const LayerPlan* layers = layers_of(task);
    ExplainedOp& op = rows_[key(task)];
    if (op.tasks == 0) {
      op.layers = layers ? layers->layers : Range{};
      op.stage = task.stage;
      op.unit = task.unit;
      op.what = describe(task, layers);
      if (const int64_t all = size_of_op(model_, task.stage); all > 0)
        op.share = static_cast<double>(task.range.size()) / static_cast<double>(all);
    }
    op.tasks += 1;
    op.bytes += task.bytes;
    result_.bytes_of_unit[static_cast<size_t>(task.unit)] += task.bytes;
  }

  /// Whatever explains at least half of the time alone; arithmetic is what is left.
  static std::string bound(const Task& task, const TaskCost& cost, const UnitProfile& unit) {
    const double half = cost.seconds / 2;
    if (unit.barrier_s.median >= half) return "sync";
    if (cost.memory_bytes / unit.dram_read_per_s.median >= half)
      return "memory " + unit.unit.memory;
    if (cost.memory_bytes == 0 && task.bytes / unit.cache_read_per_s.median >= half) return "cache";
    return "compute";
  }

  const ModelSpec& model_;
  const Phase& phase_;
  const TaskGraph graph_;
  std::map<RowKey, ExplainedOp> rows_;
  Explanation result_;
};

/// The measured units in the order of the plan; CostModel has made sure that there are all.
std::vector<const UnitProfile*> units_of(const Plan& plan, const MachineProfile& machine) {
  std::vector<const UnitProfile*> units;
  for (const std::string& name : plan.units)
    units.push_back(&*std::find_if(machine.units.begin(), machine.units.end(),
                                   [&](const UnitProfile& u) { return u.unit.name == name; }));
  return units;
}

}  // namespace

Step typical_step(const Plan& plan, const Phase& phase) {
  const Workload& workload = plan.workload;
  const auto holds = [&](int64_t tokens, int64_t context) {
    return phase.tokens.contains(tokens) && phase.context.contains(context) &&
           &phase_for(plan, tokens, context) == &phase;
  };
  Step step;
  step.tokens = phase.tokens.begin;
  step.context = phase.context.begin;
  if (holds(workload.tokens, workload.context)) {
    step.tokens = workload.tokens;
    step.context = workload.context;
  } else if (holds(workload.prompt, 0)) {
    step.tokens = workload.prompt;
    step.context = 0;
  }
  return step;
}

Explanation explain(const ModelSpec& model, const Plan& plan, const Step& step,
                    const MachineProfile* machine) {
  Explainer explainer(model, plan, step);
  if (machine) {
    const CostModel cost(model, *machine, plan);
    explainer.add_times(cost, units_of(plan, *machine));
  }
  return std::move(explainer).result();
}

}  // namespace tandem
