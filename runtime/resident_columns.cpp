#include "runtime/resident_columns.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/panels.h"
#include "runtime/column_set.h"

namespace tandem {
namespace {

size_t index(int64_t i) { return static_cast<size_t>(i); }

/// Collects what the units need of one matrix.
class Collector {
 public:
  explicit Collector(const std::vector<int>& memory_of)
      : memory_of_(memory_of), present_(count_memories(memory_of)) {
    result_.of_unit.resize(memory_of.size());
  }

  void need(int unit, Range columns) {
    std::vector<Range>& own = result_.of_unit[index(unit)];
    const std::vector<Range> missing = present_[index(memory_of_[index(unit)])].add(columns);
    own.insert(own.end(), missing.begin(), missing.end());
  }

  HeldColumns result() && {
    for (const ColumnSet& columns : present_) result_.of_memory.push_back(columns.pieces());
    return std::move(result_);
  }

 private:
  const std::vector<int>& memory_of_;
  std::vector<ColumnSet> present_;  ///< [memory]
  HeldColumns result_;
};

/// Of a matrix whose split in a phase is split_in(phase); column c of the split begins column
/// c / per * times.
struct Placed {
  int64_t times = 1, per = 1;
  Home home = Home::kResident;
};
template <class SplitIn>
HeldColumns collect(std::span<const Plan> plans, const std::vector<int>& memory_of,
                    const Placed& matrix, const SplitIn& split_in) {
  const auto& [times, per, home] = matrix;
  Collector collector(memory_of);
  for (int unit = 0; unit < static_cast<int>(memory_of.size()); ++unit)
    for (const Plan& plan : plans)
      for (const Phase& phase : plan.phases)
        for (const ColumnShare& share : split_in(phase))
          if (share.unit == unit && share.home == home)
            collector.need(unit,
                           {share.columns.begin / per * times, share.columns.end / per * times});
  return std::move(collector).result();
}

void add_bytes(const HeldColumns& columns, DType dtype, int64_t k, int64_t segment,
               std::vector<int64_t>& bytes_of_unit) {
  for (size_t unit = 0; unit < bytes_of_unit.size(); ++unit)
    for (const Range range : columns.of_unit[unit])
      bytes_of_unit[unit] += packed_bytes(dtype, k, segment, range);
}

}  // namespace

std::vector<int> number_memories(const std::vector<Unit>& units) {
  std::vector<std::string> stores;
  std::vector<int> memory_of;
  for (const Unit& unit : units) {
    const std::string store = weight_store(unit);
    const auto found = std::find(stores.begin(), stores.end(), store);
    memory_of.push_back(static_cast<int>(found - stores.begin()));
    if (found == stores.end()) stores.push_back(store);
  }
  return memory_of;
}

uint64_t cuda_units(const std::vector<Unit>& units) {
  uint64_t mask = 0;
  for (size_t unit = 0; unit < units.size(); ++unit)
    if (units[unit].kind == UnitKind::kCuda) mask |= uint64_t{1} << unit;
  return mask;
}

size_t count_memories(const std::vector<int>& memory_of) {
  return memory_of.empty() ? 0 : index(1 + *std::max_element(memory_of.begin(), memory_of.end()));
}

std::vector<LayerMatrix> layer_matrices(const ModelSpec& spec) {
  using W = LayerWeights;
  using P = PlacedLayer;
  using D = LayerDTypes;
  using L = LayerPlan;
  const int64_t hidden = spec.hidden_size, inner = spec.intermediate_size, head = spec.head_dim;
  const int64_t q = spec.q_size(), kv = spec.num_kv_heads * head;
  const int64_t group = spec.group() * head, width = spec.qkv_columns_per_kv_head();
  return {{&W::q, &P::q, &D::q, &L::qkv, q, hidden, head, group, width},
          {&W::k, &P::k, &D::k, &L::qkv, kv, hidden, head, head, width},
          {&W::v, &P::v, &D::v, &L::qkv, kv, hidden, head, head, width},
          {&W::out, &P::out, &D::out, &L::out, hidden, q, hidden},
          {&W::gate, &P::gate, &D::gate, &L::gate_up, inner, hidden, inner},
          {&W::up, &P::up, &D::up, &L::gate_up, inner, hidden, inner},
          {&W::down, &P::down, &D::down, &L::down, hidden, inner, hidden}};
}

HeldColumns held_columns(const LayerMatrix& matrix, std::span<const Plan> plans, int64_t layer,
                         const std::vector<int>& memory_of, Home home) {
  return collect(plans, memory_of, {matrix.times, matrix.per, home},
                 [&](const Phase& phase) -> const LinearSplit& {
                   return layer_plan(phase, layer).*matrix.op;
                 });
}

HeldColumns held_lm_head(std::span<const Plan> plans, const std::vector<int>& memory_of,
                         Home home) {
  return collect(plans, memory_of, {.home = home},
                 [](const Phase& phase) -> const LinearSplit& { return phase.lm_head; });
}

bool reads_table(const ModelSpec& spec, std::span<const Plan> plans,
                 const std::vector<int>& memory_of, uint64_t cuda) {
  if (!spec.tied_embedding) return true;
  const HeldColumns head = held_lm_head(plans, memory_of);
  const std::vector<Range> whole{{0, spec.vocab_size}};
  return std::any_of(plans.begin(), plans.end(), [&](const Plan& plan) {
    const size_t unit = index(plan.embedding);
    // A head in a CUDA device's memory is none that the driver could read rows from.
    return cuda >> unit & 1 || head.of_memory[index(memory_of[unit])] != whole;
  });
}

std::vector<int64_t> matrix_bytes(const ModelSpec& spec, std::span<const Plan> plans,
                                  const std::vector<int>& memory_of, Home home) {
  std::vector<int64_t> bytes(memory_of.size());
  add_bytes(held_lm_head(plans, memory_of, home), spec.lm_head, spec.hidden_size, spec.vocab_size,
            bytes);
  const std::vector<LayerMatrix> matrices = layer_matrices(spec);
  for (int64_t layer = 0; layer < spec.num_layers; ++layer)
    for (const LayerMatrix& matrix : matrices)
      add_bytes(held_columns(matrix, plans, layer, memory_of, home),
                spec.layers[index(layer)].*matrix.dtype, matrix.k, matrix.segment, bytes);
  return bytes;
}

std::vector<int64_t> held_weights(const ModelSpec& spec, std::span<const Plan> plans,
                                  const std::vector<int>& memory_of,
                                  const std::vector<PlacedWeights>& placed) {
  std::vector<int64_t> bytes = matrix_bytes(spec, plans, memory_of);
  for (size_t m = 0; m < placed.size(); ++m) {
    int64_t others = 0;
    int64_t* first = nullptr;
    for (size_t unit = 0; unit < bytes.size(); ++unit) {
      if (index(memory_of[unit]) != m) continue;
      if (first) others += bytes[unit];
      if (!first) first = &bytes[unit];
    }
    if (first) *first = placed[m].bytes - others;
  }
  return bytes;
}

}  // namespace tandem
