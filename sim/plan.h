// A placement: which unit does which columns, heads and positions. Integers only; shares die when
// the YAML is read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/home.h"
#include "kernels/range.h"
#include "profiles/machine_profile.h"
#include "sim/model_spec.h"

namespace tandem {

/// Columns of one linear that a unit computes. `unit` indexes Plan::units.
struct ColumnShare {
  int unit = 0;
  Range columns;
  Home home = Home::kResident;  ///< where the unit finds their weights
  friend bool operator==(const ColumnShare&, const ColumnShare&) = default;
};
/// Disjoint, ascending, covering [0, columns of the op); cut on kColumnAlign (qkv: on
/// qkv_columns_per_kv_head). A unit may have a resident and a streamed share, in plan.yaml in this
/// order.
using LinearSplit = std::vector<ColumnShare>;

/// Query x keys of some heads, positions and, where new_tokens, the tokens of the step.
struct AttentionPart {
  int unit = 0;
  Range kv_heads;
  Range context;  ///< positions, kAll, or empty = none; cut on kAttentionChunk
  bool new_tokens = true;
  friend bool operator==(const AttentionPart&, const AttentionPart&) = default;
};

struct LayerPlan {
  Range layers;
  LinearSplit qkv, out, gate_up, down;
  std::vector<AttentionPart>
      attention;  ///< cover every (kv head, position) and (kv head, new) once
  friend bool operator==(const LayerPlan&, const LayerPlan&) = default;
};

/// What is done for steps of so many tokens at so much context.
struct Phase {
  Range tokens{1, kOpenEnd};
  Range context = kAll;
  std::vector<LayerPlan> layers;  ///< ascending, covering all layers
  LinearSplit lm_head;
  friend bool operator==(const Phase&, const Phase&) = default;
};

/// A predicted or measured rate with the interval it claims.
struct Rate {
  double per_s = 0;
  double low = 0;
  double high = 0;
};

struct Prediction {
  Rate decode_tokens_per_s;   ///< workload.tokens tokens a step at workload.context
  Rate prefill_tokens_per_s;  ///< workload.prompt tokens at context 0
  double lower_bound_s = 0;   ///< no plan's decode step is faster than this, within the model
  double gap = 0;             ///< decode step over lower_bound_s, minus 1
};

struct Measurement {
  double decode_tokens_per_s = 0;
  double prefill_tokens_per_s = 0;
  std::string date;
  std::string state;
};

struct Workload {
  int64_t context = 1024;  ///< depth at which decode is planned
  int64_t tokens = 1;      ///< tokens of a decode or verification step
  int64_t prompt = 512;    ///< tokens of the prefill that is planned
};

struct Plan {
  int version = 1;
  std::string model_name, model_dtype, model_fingerprint;
  std::string model_source;  ///< what --model was: a file or a shape, so that validate finds it
  std::string machine_name, machine_fingerprint;
  DType kv_dtype = DType::kF16;
  Workload workload;
  std::vector<std::string> units;
  std::vector<Phase> phases;
  int embedding = 0;  ///< unit
  std::optional<Prediction> predicted;
  std::optional<Measurement> measured;
};

/// The first phase that holds both; Error where none does.
const Phase& phase_for(const Plan& plan, int64_t tokens, int64_t context);
const LayerPlan& layer_plan(const Phase& phase, int64_t layer);

/// The whole model on one unit.
Plan single_unit_plan(const ModelSpec& model, const std::vector<std::string>& units, int unit);

/// Error naming the op, the value and what was expected, unless every rule above holds for the
/// model, a (kv head, position) has the same home in all phases, a part of a later phase within
/// one home, and no column of a unit is resident in one phase and streamed in another. `where`
/// begins the message (a file name).
void check_plan(const Plan& plan, const ModelSpec& model, const std::string& where);
/// Error where a unit that is no CUDA unit streams. `units` are those of plan.units in its order.
void check_streaming_units(const Plan& plan, const std::vector<Unit>& units,
                           const std::string& where);
/// Bit u: unit u has a streamed share in some phase.
uint64_t streaming_units(const Plan& plan);

/// Columns of qkv: kv heads in order, of each its query heads, its K, its V.
inline int64_t qkv_columns(const ModelSpec& model) {
  return model.num_kv_heads * model.qkv_columns_per_kv_head();
}

/// Where the keys and values of some positions of some heads live.
struct KvHome {
  int unit = 0;
  int64_t layer = 0;
  Range kv_heads;
  Range positions;  ///< may be open
};
/// Homes that one layer of the first phase makes: its parts that have a context, those of one unit
/// joined where they make up a rectangle of heads x positions. `layer` is -1.
std::vector<KvHome> layer_kv_homes(const LayerPlan& layer);
/// Homes of all layers of a checked plan: those of the first phase. Where a part takes new tokens
/// but no context the positions stay with whoever holds the open end of that head. A part of any
/// phase lies within one home.
std::vector<KvHome> kv_homes(const Plan& plan, const ModelSpec& model);

}  // namespace tandem
