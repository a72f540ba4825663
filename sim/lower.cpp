#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "kernels/cuda_planes.h"
#include "kernels/error.h"
#include "sim/head_runs.h"
#include "sim/task_graph.h"

namespace tandem {
namespace {

void check_step(const Step& step) {
  if (step.tokens < 1)
    throw Error(fmt::format("step: {} tokens; expected at least 1", step.tokens));
  if (step.context < 0)
    throw Error(fmt::format("step: context {}; expected at least 0", step.context));
  if (step.logits_rows < 0 || step.logits_rows > step.tokens)
    throw Error(fmt::format("step: {} logits rows; expected 0 to its {} tokens", step.logits_rows,
                            step.tokens));
  if (step.parents.empty()) return;
  if (std::ssize(step.parents) != step.tokens)
    throw Error(fmt::format("step: {} parents; expected one for each of {} tokens",
                            step.parents.size(), step.tokens));
  for (int64_t i = 0; i < step.tokens; ++i) {
    const int32_t parent = step.parents[static_cast<size_t>(i)];
    if (parent < -1 || parent >= i)
      throw Error(
          fmt::format("step: parent of token {} is {}; expected -1 to {}", i, parent, i - 1));
  }
}

/// Mean over tokens of how many tokens of the step each one sees: its ancestors and itself.
double mean_visible_new(const Step& step) {
  if (step.parents.empty()) return static_cast<double>(step.tokens + 1) / 2;
  std::vector<int64_t> depth;
  int64_t sum = 0;
  for (const int32_t parent : step.parents) {
    depth.push_back(parent < 0 ? 1 : depth[static_cast<size_t>(parent)] + 1);
    sum += depth.back();
  }
  return static_cast<double>(sum) / static_cast<double>(step.tokens);
}

/// Appends tasks; ids of the tasks that the next stage waits for are handed from method to method.
class Lowering {
 public:
  Lowering(const ModelSpec& model, const Plan& plan, const Step& step)
      : model_(model),
        plan_(plan),
        phase_(phase_for(plan, step.tokens, step.context)),
        visible_new_(mean_visible_new(step)),
        readers_(plan.units.size()) {
    graph_.step = step;
    graph_.num_units = static_cast<int>(plan.units.size());
  }

  TaskGraph lower() && {
    std::vector<int> last = {embed()};
    for (const LayerPlan& group : phase_.layers) {
      const std::vector<HeadRun> runs = head_runs(model_, group, graph_.step);
      for (int64_t layer = group.layers.begin; layer < group.layers.end; ++layer)
        last = lower_layer(group, runs, static_cast<int>(layer), last);
    }
    if (graph_.step.logits_rows > 0) {
      last = linear(Stage::kLmHead, -1, phase_.lm_head, last,
                    {{model_.lm_head, 0, model_.hidden_size}});
      last = {sample(last)};
    }
    commit(last);
    return std::move(graph_);
  }

 private:
  using Ids = std::vector<int>;

  /// The reference is good until the next task is added.
  Task& add(Stage stage, int layer, int unit, Range range, const Ids& deps) {
    Task& task = graph_.tasks.emplace_back();
    task.id = static_cast<int>(graph_.tasks.size()) - 1;
    task.stage = stage;
    task.layer = layer;
    task.unit = unit;
    task.range = range;
    task.tokens = rows_of(stage);
    task.deps = deps;
    return task;
  }

  int64_t rows_of(Stage stage) const {
    const Step& step = graph_.step;
    if (stage == Stage::kLmHead) return step.logits_rows;
    if (stage == Stage::kSample) return step.sampled ? step.logits_rows : 1;
    return step.tokens;
  }

  static void add_matrix(Task& task, const MatrixWork& matrix) {
    task.matrices[static_cast<size_t>(task.num_matrices++)] = matrix;
    task.bytes += static_cast<double>(matrix.bytes());
    task.flops += 2.0 * static_cast<double>(matrix.columns * matrix.k * task.tokens);
  }

  int embed() {
    const int64_t tokens = graph_.step.tokens;
    Task& task = add(Stage::kEmbed, -1, plan_.embedding, {0, tokens}, {});
    task.bytes = static_cast<double>(tokens * row_bytes(model_.embedding, model_.hidden_size));
    return task.id;
  }

  Ids lower_layer(const LayerPlan& plan, std::span<const HeadRun> runs, int layer,
                  const Ids& deps) {
    const LayerDTypes& dtypes = model_.layers[static_cast<size_t>(layer)];
    const int64_t hidden = model_.hidden_size, inner = model_.intermediate_size;
    const Ids heads = attention(plan, runs, layer, qkv(plan, layer, deps));
    const Ids out = linear(Stage::kOut, layer, plan.out, heads, {{dtypes.out, 0, model_.q_size()}});
    const Ids gate_up = linear(Stage::kGateUp, layer, plan.gate_up, out,
                               {{dtypes.gate, 0, hidden}, {dtypes.up, 0, hidden}});
    return linear(Stage::kDown, layer, plan.down, gate_up, {{dtypes.down, 0, inner}});
  }

  /// Columns of a share that one task multiplies.
  struct Product {
    Stage stage;
    int layer;
    Range columns;
    std::span<const MatrixWork> matrices;
    size_t per_slot;  ///< matrices that lie in a slot together where they are streamed
  };

  /// A streamed share's copies come before the task that reads them.
  Task& add_product(const ColumnShare& share, const Product& product, const Ids& deps) {
    const Ids copies = share.home == Home::kStreamed ? add_copies(share.unit, product) : Ids{};
    Task& task = add(product.stage, product.layer, share.unit, product.columns, deps);
    task.deps.insert(task.deps.end(), copies.begin(), copies.end());
    task.home = share.home;
    for (const MatrixWork& matrix : product.matrices) add_matrix(task, matrix);
    return task;
  }

  Ids add_copies(int unit, const Product& product) {
    std::vector<int>& readers = readers_[static_cast<size_t>(unit)];
    const size_t copies = product.matrices.size() / product.per_slot;
    const int reader = static_cast<int>(graph_.tasks.size() + copies);
    Ids ids;
    for (size_t i = 0; i < copies; ++i) {
      const auto slot_was = std::ssize(readers) - kStreamSlots;
      const Ids read = slot_was < 0 ? Ids{} : Ids{readers[static_cast<size_t>(slot_was)]};
      Task& copy = add(Stage::kCopy, product.layer, unit, product.columns, read);
      copy.home = Home::kStreamed;
      for (const MatrixWork& matrix :
           product.matrices.subspan(i * product.per_slot, product.per_slot))
        add_matrix(copy, matrix);
      copy.bytes = copied_bytes(copy);
      copy.flops = 0;
      ids.push_back(copy.id);
      readers.push_back(reader);
    }
    return ids;
  }

  /// What crosses the link is packed.
  static double copied_bytes(const Task& copy) {
    int64_t sum = 0;
    for (const MatrixWork& matrix : copy.matrices)
      for (const int64_t bytes : cuda::column_bytes(matrix.dtype, matrix.k))
        sum += matrix.columns * bytes;
    return static_cast<double>(sum);
  }

  /// Columns of a share's tasks: all of them, or where it is streamed as many as fill a slot, of
  /// which `align` take `align_bytes`.
  static int64_t columns_at_once(const ColumnShare& share, int64_t align, int64_t align_bytes) {
    if (share.home == Home::kResident) return std::max<int64_t>(1, share.columns.size());
    return std::max(align, columns_of_slot(align, align_bytes));
  }

  /// Tasks of every non-empty share, their columns of every matrix in `shapes` (whose own are
  /// ignored). What waits for a share waits for its last task.
  Ids linear(Stage stage, int layer, const LinearSplit& split, const Ids& deps,
             std::initializer_list<MatrixWork> shapes) {
    std::array<MatrixWork, 3> matrices{};
    std::copy(shapes.begin(), shapes.end(), matrices.begin());
    const std::span<MatrixWork> used(matrices.data(), shapes.size());
    int64_t align_bytes = 0;
    for (const MatrixWork& shape : used)
      align_bytes += cuda::matrix_bytes(shape.dtype, kColumnAlign, shape.k);
    Ids ids;
    for (const ColumnShare& share : split) {
      const int64_t step = columns_at_once(share, kColumnAlign, align_bytes);
      for (int64_t begin = share.columns.begin; begin < share.columns.end; begin += step) {
        const Range columns{begin, std::min(begin + step, share.columns.end)};
        for (MatrixWork& matrix : used) matrix.columns = columns.size();
        add_product(share, {stage, layer, columns, used, used.size()}, deps);
      }
      if (!share.columns.empty()) ids.push_back(graph_.tasks.back().id);
    }
    return ids;
  }

  Ids qkv(const LayerPlan& plan, int layer, const Ids& deps) {
    const LayerDTypes& dtypes = model_.layers[static_cast<size_t>(layer)];
    const int64_t hidden = model_.hidden_size, width = model_.qkv_columns_per_kv_head();
    // Each matrix is copied by itself, so that the largest of a head decides.
    const int64_t head_bytes =
        std::max({cuda::matrix_bytes(dtypes.q, model_.group() * model_.head_dim, hidden),
                  cuda::matrix_bytes(dtypes.k, model_.head_dim, hidden),
                  cuda::matrix_bytes(dtypes.v, model_.head_dim, hidden)});
    Ids ids;
    for (const ColumnShare& share : plan.qkv) {
      const int64_t step = columns_at_once(share, width, head_bytes);
      for (int64_t begin = share.columns.begin; begin < share.columns.end; begin += step) {
        const Range piece{begin, std::min(begin + step, share.columns.end)};
        const int64_t heads = piece.size() / width, columns = heads * model_.head_dim;
        const std::array<MatrixWork, 3> matrices{{{dtypes.q, columns * model_.group(), hidden},
                                                  {dtypes.k, columns, hidden},
                                                  {dtypes.v, columns, hidden}}};
        Task& task = add_product(share, {Stage::kQkv, layer, piece, matrices, 1}, deps);
        task.kv_heads = heads;
        ids.push_back(task.id);
      }
    }
    return ids;
  }

  /// Tasks of every part, then the merges; what `out` waits for: whole parts and merges.
  Ids attention(const LayerPlan& plan, std::span<const HeadRun> runs, int layer, const Ids& qkv) {
    std::vector<Ids> tasks_of_run(runs.size());
    for (size_t part = 0; part < plan.attention.size(); ++part)
      for (size_t run = 0; run < runs.size(); ++run) {
        const std::vector<int>& parts = runs[run].parts;
        if (std::find(parts.begin(), parts.end(), static_cast<int>(part)) != parts.end())
          tasks_of_run[run].push_back(attend(plan, static_cast<int>(part), runs[run], layer, qkv));
      }
    Ids ids;
    for (size_t run = 0; run < runs.size(); ++run)
      ids.push_back(tasks_of_run[run].size() == 1
                        ? tasks_of_run[run].front()
                        : merge(plan, runs[run], layer, std::move(tasks_of_run[run])));
    return ids;
  }

  int attend(const LayerPlan& plan, int part_index, const HeadRun& run, int layer, const Ids& qkv) {
    const AttentionPart& part = plan.attention[static_cast<size_t>(part_index)];
    const int64_t heads = run.kv_heads.size();
    const int64_t cached = intersect(part.context, {0, graph_.step.context}).size();
    Task& task = add(Stage::kAttention, layer, part.unit, run.kv_heads, qkv_of(run.kv_heads, qkv));
    task.part = part_index;
    task.kv_heads = heads;
    task.whole = run.parts.size() == 1;
    task.positions = static_cast<double>(cached) + (part.new_tokens ? visible_new_ : 0);
    task.bytes = kv_bytes(heads, cached + (part.new_tokens ? task.tokens : 0));
    task.flops = 4.0 * static_cast<double>(model_.head_dim * model_.group() * heads * task.tokens) *
                 task.positions;
    return task.id;
  }

  /// Of the tasks `qkv`, those that compute some of the heads.
  Ids qkv_of(Range kv_heads, const Ids& qkv) const {
    const int64_t width = model_.qkv_columns_per_kv_head();
    Ids ids;
    for (const int id : qkv) {
      const Range columns = graph_.tasks[static_cast<size_t>(id)].range;
      if (!intersect(kv_heads, {columns.begin / width, columns.end / width}).empty())
        ids.push_back(id);
    }
    return ids;
  }

  double kv_bytes(int64_t heads, int64_t positions) const {
    return 2.0 *
           static_cast<double>(heads * positions * row_bytes(plan_.kv_dtype, model_.head_dim));
  }

  int merge(const LayerPlan& plan, const HeadRun& run, int layer, Ids attended) {
    const auto place = [&](int id) {
      const int part = graph_.tasks[static_cast<size_t>(id)].part;
      return std::find(run.parts.begin(), run.parts.end(), part);
    };
    std::sort(attended.begin(), attended.end(), [&](int a, int b) { return place(a) < place(b); });
    int unit = 0;
    for (const int part : run.parts)
      if (plan.attention[static_cast<size_t>(part)].new_tokens)
        unit = plan.attention[static_cast<size_t>(part)].unit;
    Task& task = add(Stage::kMerge, layer, unit, run.kv_heads, attended);
    task.part = run.parts.front();
    task.kv_heads = run.kv_heads.size();
    const int64_t states = task.tokens * task.kv_heads * model_.group() * std::ssize(run.parts);
    task.bytes = static_cast<double>(states * (model_.head_dim + 2)) * sizeof(float);
    return task.id;
  }

  int sample(const Ids& deps) {
    const int unit = graph_.tasks[static_cast<size_t>(deps.front())].unit;
    Task& task = add(Stage::kSample, -1, unit, {0, model_.vocab_size}, deps);
    task.bytes = static_cast<double>(task.tokens * model_.vocab_size) * sizeof(float);
    return task.id;
  }

  /// One task per unit that is home of any of the new positions, in any layer.
  void commit(const Ids& deps) {
    const Range positions{graph_.step.context, graph_.step.context + graph_.step.tokens};
    for (int unit = 0; unit < graph_.num_units; ++unit) {
      Range layers;
      double bytes = 0;
      for (const LayerPlan& group : plan_.phases.front().layers)
        for (const AttentionPart& part : group.attention) {
          const Range held = intersect(part.context, positions);
          if (part.unit != unit || held.empty()) continue;
          layers = hull(layers, group.layers);
          bytes += static_cast<double>(group.layers.size()) *
                   kv_bytes(part.kv_heads.size(), held.size());
        }
      if (!layers.empty()) add(Stage::kCommit, -1, unit, layers, deps).bytes = bytes;
    }
  }

  const ModelSpec& model_;
  const Plan& plan_;
  const Phase& phase_;
  const double visible_new_;
  std::vector<std::vector<int>>
      readers_;  ///< [unit] of its copies so far, the tasks that read them
  TaskGraph graph_;
};

}  // namespace

TaskGraph lower(const ModelSpec& model, const Plan& plan, const Step& step) {
  check_step(step);
  return Lowering(model, plan, step).lower();
}

}  // namespace tandem
