// What one forward pass means in tasks, and where their time went. Made by lower(), read by two
// interpreters.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/home.h"
#include "kernels/range.h"
#include "sim/model_spec.h"
#include "sim/plan.h"

namespace tandem {

/// One forward pass: decode is 1 token, prefill many in a chain, verification a tree of W tokens.
struct Step {
  int64_t tokens = 1;
  int64_t context = 0;           ///< positions cached before it
  int64_t logits_rows = 1;       ///< the last so many tokens get logits
  std::vector<int32_t> parents;  ///< [tokens], each < its index, -1 = the context; empty = a chain
  /// The host chooses what is kept and what comes next; otherwise everything, and the largest
  /// logit.
  bool sampled = false;
};

enum class Stage : uint8_t {
  kEmbed,
  kQkv,
  kAttention,
  kMerge,
  kOut,
  kGateUp,
  kDown,
  kLmHead,
  kSample,
  kCommit,
  kCopy  ///< streamed weights over the link of their unit, beside what the unit does
};
inline constexpr std::array<std::string_view, 11> kStageNames{
    "embed", "qkv",     "attention", "merge",  "out", "gate_up",
    "down",  "lm_head", "sample",    "commit", "copy"};
constexpr std::string_view name(Stage stage) { return kStageNames[static_cast<size_t>(stage)]; }

/// One matrix slice that a linear task multiplies, or a copy copies.
struct MatrixWork {
  DType dtype = DType::kF32;
  int64_t columns = 0;
  int64_t k = 0;
  int64_t bytes() const { return columns * row_bytes(dtype, k); }
};

struct Task {
  int id = 0;  ///< index in TaskGraph::tasks
  Stage stage = Stage::kEmbed;
  int layer = -1;  ///< -1 outside layers
  int unit = 0;    ///< index in Plan::units
  Range range;     ///< columns; kv heads for attention and merge; rows for embed; layers for commit
  int part =
      -1;  ///< attention: index in LayerPlan::attention; merge: part with the first positions
  int64_t tokens = 1;  ///< rows of input, the last (lm_head: logits rows; sample: all of those
                       ///< where the host chooses, else one)
  std::array<MatrixWork, 3> matrices{};  ///< linear stages; the used ones come first
  int num_matrices = 0;
  Home home = Home::kResident;  ///< of the matrices
  int64_t kv_heads = 0;         ///< attention, merge
  double positions = 0;         ///< attention: mean positions seen per token
  bool whole = true;  ///< attention: covers its heads alone, so it writes o / l, not a state
  double bytes = 0;   ///< weights, or keys and values, read from the unit's memory; copy: packed
  double flops = 0;
  std::vector<int> deps;  ///< ids, all smaller than id
};

/// Who does a task: units are lanes 0, 1, ...; behind them comes the link of each.
constexpr int lane_of(const Task& task, int num_units) {
  return task.stage == Stage::kCopy ? num_units + task.unit : task.unit;
}

/// Tasks in topological order; a lane does its own in this order.
struct TaskGraph {
  Step step;
  int num_units = 0;
  std::vector<Task> tasks;
};

/// The only place that says what work a plan means. The plan must have passed check_plan for this
/// model; Error where the step is not one, or no phase of the plan holds it. Attention parts
/// without work in this step make no task; a part makes one task per run of heads that the same
/// parts work on. A merge depends on exactly the tasks whose states it merges, in ascending order
/// of position. Without logits rows, commit follows the last layer.
///
/// A streamed share makes a task for each piece that fills a slot (see kernels/home.h), and each of
/// these depends on copies: one of each matrix of qkv, one of all matrices elsewhere. A copy
/// depends on what reads the slot before it. Later stages depend on the last piece of a share, but
/// attention on the pieces that have its heads.
TaskGraph lower(const ModelSpec& model, const Plan& plan, const Step& step);

struct Span {
  int task = 0;
  int unit = 0;
  double start_s = 0;  ///< since the step began; waiting for other units is not in the span
  double end_s = 0;
};

struct Timeline {
  enum class Origin : uint8_t { kSimulated, kMeasured } origin = Origin::kSimulated;
  /// One per task, by task id. A measured one has none for copies: the device makes them ahead by
  /// itself, when it can.
  std::vector<Span> spans;
  double makespan_s = 0;
};

}  // namespace tandem
