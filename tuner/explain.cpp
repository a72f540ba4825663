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
    case Stage::kCopy:
      break;
  }
  return 0;
}

/// `columns` are those of all pieces of a streamed share.
std::string describe(const Task& task, Range columns, const LayerPlan* layers) {
  const std::string range = format_range(columns);
  switch (task.stage) {
    case Stage::kEmbed:
      return "rows " + range;
    case Stage::kMerge:
      return "heads " + range;
    case Stage::kCommit:
      return "layers " + range;
    case Stage::kCopy:
      return "over the link";
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
using RowKey = std::tuple<int64_t, Stage, int, Home, int64_t, int>;
struct Row {
  ExplainedOp op;
  Range columns;            ///< from the first piece to the last
  int64_t all_columns = 0;  ///< of all tasks
};

class Explainer {
 public:
  Explainer(const ModelSpec& model, const Plan& plan, const Step& step)
      : model_(model),
        plan_(plan),
        phase_(phase_for(plan, step.tokens, step.context)),
        graph_(lower(model, plan, step)) {
    result_.step = step;
    result_.bytes_of_unit.resize(plan.units.size());
    for (const Task& task : graph_.tasks) add(task);
  }

  void add_times(const CostModel& cost, const std::vector<const UnitProfile*>& units) {
    const Timeline timeline = simulate(model_, plan_, graph_, cost);
    result_.makespan_s = timeline.makespan_s;
    for (const Span& span : timeline.spans) {
      const Task& task = graph_.tasks[static_cast<size_t>(span.task)];
      ExplainedOp& op = rows_[key(task)].op;
      op.seconds += span.end_s - span.start_s;
      op.bound = bound(task, cost.cost(task), *units[static_cast<size_t>(task.unit)]);
    }
  }

  Explanation result() && {
    for (auto& [row_key, row] : rows_) result_.ops.push_back(std::move(row.op));
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
    const int64_t begin = task.home == Home::kStreamed ? 0 : task.range.begin;
    return {first, task.stage, task.unit, task.home, begin, task.part};
  }

  void add(const Task& task) {
    const LayerPlan* layers = layers_of(task);
    Row& row = rows_[key(task)];
    ExplainedOp& op = row.op;
    row.columns = op.tasks == 0 ? task.range : hull(row.columns, task.range);
    row.all_columns += task.range.size();
    op.layers = layers ? layers->layers : Range{};
    op.stage = task.stage;
    op.unit = task.unit;
    op.home = task.home;
    op.what = describe(task, row.columns, layers);
    if (const int64_t all = size_of_op(model_, task.stage); all > 0)
      op.share = static_cast<double>(row.all_columns) /
                 static_cast<double>(all * (layers ? op.layers.size() : 1));
    op.tasks += 1;
    op.bytes += task.bytes;
    if (task.stage != Stage::kCopy)
      result_.bytes_of_unit[static_cast<size_t>(task.unit)] += task.bytes;
  }

  /// Whatever explains at least half of the time alone; arithmetic is what is left.
  static std::string bound(const Task& task, const TaskCost& cost, const UnitProfile& unit) {
    if (task.stage == Stage::kCopy) return "link";
    const double half = cost.seconds / 2;
    if (unit.barrier_s.median >= half) return "sync";
    if (cost.memory_bytes / unit.dram_read_per_s.median >= half)
      return "memory " + unit.unit.memory;
    if (cost.memory_bytes == 0 && task.bytes / unit.cache_read_per_s.median >= half) return "cache";
    return "compute";
  }

  const ModelSpec& model_;
  const Plan& plan_;
  const Phase& phase_;
  const TaskGraph graph_;
  std::map<RowKey, Row> rows_;
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
