// plan_memory: what a plan needs on each unit.
#include <algorithm>
#include <functional>
#include <map>

#include "kernels/kernel_set.h"
#include "runtime/executor.h"
#include "tuner/search.h"

namespace tandem {
namespace {

/// Bytes of a range of columns as it is packed; segments (heads) start a panel of their own.
int64_t packed_bytes(DType dtype, int64_t k, int64_t columns, int64_t segment) {
  const int64_t segments = div_up(columns, segment);
  return segments * div_up(std::min(columns, segment), kPanelColumns) * panel_bytes(dtype, k);
}

/// Disjoint ascending ranges: what lies in a memory already.
class Coverage {
 public:
  /// Adds a range; the columns of it that are new.
  int64_t add(Range range) {
    int64_t fresh = range.size();
    for (const Range present : ranges_) fresh -= intersect(range, present).size();
    std::vector<Range> disjoint;
    for (const Range present : ranges_)
      if (range.begin <= present.end && present.begin <= range.end)
        range = hull(range, present);
      else
        disjoint.push_back(present);
    disjoint.push_back(range);
    ranges_ = std::move(disjoint);
    return fresh;
  }

 private:
  std::vector<Range> ranges_;
};

class MemoryCount {
 public:
  MemoryCount(const ModelSpec& model, const MachineProfile& machine, const Plan& plan)
      : model_(model), plan_(plan), memory_(plan.units.size()) {
    for (const std::string& unit : plan.units) memory_of_.push_back(memory_name(machine, unit));
  }

  std::vector<UnitMemory> count() && {
    for (int64_t layer = 0; layer < model_.num_layers; ++layer) count_layer(layer);
    const auto lm_head = [](const Phase& phase) -> const LinearSplit& { return phase.lm_head; };
    count_split(lm_head, [&](int64_t columns) {
      return packed_bytes(model_.lm_head, model_.hidden_size, columns, model_.vocab_size);
    });
    if (!model_.tied_embedding)  // else rows come from the packed output head
      at(plan_.embedding).weights +=
          model_.vocab_size * row_bytes(model_.embedding, model_.hidden_size);
    for (const KvHome& home : kv_homes(plan_, model_)) count_home(home);
    for (size_t unit = 0; unit < memory_.size(); ++unit) memory_[unit].workspace = workspace(unit);
    return std::move(memory_);
  }

 private:
  /// A unit the machine lacks shares no memory; whether that is an error is for others to say.
  static std::string memory_name(const MachineProfile& machine, const std::string& unit) {
    for (const UnitProfile& profile : machine.units)
      if (profile.unit.name == unit) return profile.unit.memory;
    return "of " + unit;
  }

  UnitMemory& at(int unit) { return memory_[static_cast<size_t>(unit)]; }

  /// Weights of one op: the union of its ranges over phases, once per memory and counted with the
  /// first unit there. `split_in` gives a phase's split, `bytes_of` the bytes of so many columns.
  void count_split(const std::function<const LinearSplit&(const Phase&)>& split_in,
                   const std::function<int64_t(int64_t)>& bytes_of) {
    std::map<std::string, Coverage> present;
    for (int unit = 0; unit < static_cast<int>(memory_.size()); ++unit)
      for (const Phase& phase : plan_.phases)
        for (const ColumnShare& share : split_in(phase)) {
          if (share.unit != unit) continue;
          Coverage& coverage = present[memory_of_[static_cast<size_t>(unit)]];
          at(unit).weights += bytes_of(coverage.add(share.columns));
        }
  }

  void count_layer(int64_t layer) {
    const LayerDTypes& d = model_.layers[static_cast<size_t>(layer)];
    const int64_t hidden = model_.hidden_size, inner = model_.intermediate_size;
    const auto split = [layer](LinearSplit LayerPlan::*op) {
      return [layer, op](const Phase& phase) -> const LinearSplit& {
        return layer_plan(phase, layer).*op;
      };
    };
    count_split(split(&LayerPlan::qkv), [&](int64_t columns) {
      const int64_t heads = columns / model_.qkv_columns_per_kv_head();
      const auto bytes = [&](DType dtype, int64_t of_heads) {
        return packed_bytes(dtype, hidden, of_heads * model_.head_dim, model_.head_dim);
      };
      return bytes(d.q, heads * model_.group()) + bytes(d.k, heads) + bytes(d.v, heads);
    });
    count_split(split(&LayerPlan::out), [&](int64_t columns) {
      return packed_bytes(d.out, model_.q_size(), columns, hidden);
    });
    count_split(split(&LayerPlan::gate_up), [&](int64_t columns) {
      return packed_bytes(d.gate, hidden, columns, inner) +
             packed_bytes(d.up, hidden, columns, inner);
    });
    count_split(split(&LayerPlan::down),
                [&](int64_t columns) { return packed_bytes(d.down, inner, columns, hidden); });
  }

  int64_t kv_bytes(int64_t heads, int64_t positions) const {
    const int64_t row = model_.head_dim + round_up(model_.head_dim, kPanelColumns);
    return heads * positions * row * info(plan_.kv_dtype).block_bytes;
  }

  /// Positions that the caches must hold: decoding at the planned depth, or the prompt.
  int64_t capacity() const {
    const Workload& w = plan_.workload;
    return round_up(std::max(w.context + w.tokens, w.prompt), kAttentionChunk);
  }

  void count_home(const KvHome& home) {
    at(home.unit).kv +=
        kv_bytes(home.kv_heads.size(), intersect(home.positions, {0, capacity()}).size());
  }

  /// Tokens of the largest step.
  int64_t tokens() const {
    const Workload& w = plan_.workload;
    return std::max(w.tokens, std::min(w.prompt, ExecutorOptions{}.max_tokens));
  }

  /// Each unit prepares the widest input of a step for itself; what units exchange lies with the
  /// first.
  int64_t workspace(size_t unit) const {
    const int64_t widest =
        std::max({model_.hidden_size, model_.intermediate_size, model_.q_size()});
    const int64_t own = tokens() * widest * static_cast<int64_t>(sizeof(float));
    return unit == 0 ? own + exchanged() : own;
  }

  /// Residual, queries, attended heads, SwiGLU's output, partial states, logits, and the step's
  /// keys and values.
  int64_t exchanged() const {
    const int64_t states = most_cut_parts() * model_.num_heads * (model_.head_dim + 2);
    const int64_t floats =
        tokens() * (model_.hidden_size + 2 * model_.q_size() + model_.intermediate_size + states) +
        plan_.workload.tokens * model_.vocab_size;
    const int64_t rows = round_up(tokens(), kPanelColumns) + kPanelColumns;
    return floats * static_cast<int64_t>(sizeof(float)) +
           model_.num_layers * kv_bytes(model_.num_kv_heads, rows);
  }

  /// Parts of a layer that may leave partial states; 0 where every head is whole.
  int64_t most_cut_parts() const {
    int64_t most = 0;
    for (const Phase& phase : plan_.phases)
      for (const LayerPlan& layer : phase.layers)
        for (const AttentionPart& part : layer.attention)
          if (part.context != Range{0, kOpenEnd} || !part.new_tokens)
            most = std::max<int64_t>(most, std::ssize(layer.attention));
    return most;
  }

  const ModelSpec& model_;
  const Plan& plan_;
  std::vector<UnitMemory> memory_;
  std::vector<std::string> memory_of_;
};

}  // namespace

std::vector<UnitMemory> plan_memory(const ModelSpec& model, const MachineProfile& machine,
                                    const Plan& plan) {
  return MemoryCount(model, machine, plan).count();
}

}  // namespace tandem
