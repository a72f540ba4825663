// Which columns of which matrix lie in which memory, and with whom they are counted. Pure: the
// placement follows it, and a plan's need of memory is counted from it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "profiles/machine_profile.h"
#include "runtime/placement.h"
#include "sim/plan.h"

namespace tandem {

/// Memories of the units as far as weights go, that is their weight_store()s, counted from 0 in
/// order of units.
std::vector<int> number_memories(const std::vector<Unit>& units);
/// Bit u: unit u is a CUDA unit, with a memory of its own and weights to stream into it.
uint64_t cuda_units(const std::vector<Unit>& units);

/// How many memories number_memories() has counted.
size_t count_memories(const std::vector<int>& memory_of);

/// A matrix of every layer: its shape, where it is read from and placed, and how its columns follow
/// those of the op that it is part of: column c of the op begins column c / per * times.
struct LayerMatrix {
  MatrixSource LayerWeights::*source;
  MatrixPieces PlacedLayer::*placed;
  DType LayerDTypes::*dtype;
  LinearSplit LayerPlan::*op;
  int64_t columns;
  int64_t k;
  int64_t segment;
  int64_t times = 1;
  int64_t per = 1;
};
std::vector<LayerMatrix> layer_matrices(const ModelSpec& spec);

/// Columns of one matrix in one home; streamed ones lie in host memory, for the units of a memory.
struct HeldColumns {
  /// [memory] pieces, disjoint and ascending, that make up the union of what its units need in any
  /// phase of any plan.
  std::vector<std::vector<Range>> of_memory;
  /// [unit] what it needs and no earlier unit of its memory does: a copy that is shared is counted
  /// with the first.
  std::vector<std::vector<Range>> of_unit;
};
/// For plans of the same units; `memory_of[u]` is the memory of unit u.
HeldColumns held_columns(const LayerMatrix& matrix, std::span<const Plan> plans, int64_t layer,
                         const std::vector<int>& memory_of, Home home = Home::kResident);
HeldColumns held_lm_head(std::span<const Plan> plans, const std::vector<int>& memory_of,
                         Home home = Home::kResident);

/// Whether the rows of the embedding are read from its table, in some plan: they are not where they
/// are columns of the head too, all in one memory that the host reads.
bool reads_table(const ModelSpec& spec, std::span<const Plan> plans,
                 const std::vector<int>& memory_of, uint64_t cuda);

/// Packed bytes of all matrices, as HeldColumns::of_unit counts them.
std::vector<int64_t> matrix_bytes(const ModelSpec& spec, std::span<const Plan> plans,
                                  const std::vector<int>& memory_of, Home home = Home::kResident);

/// The same of what is really resident in every memory. What units of one memory share is theirs by
/// the plan; the first has whatever else is there.
std::vector<int64_t> held_weights(const ModelSpec& spec, std::span<const Plan> plans,
                                  const std::vector<int>& memory_of,
                                  const std::vector<PlacedWeights>& placed);

}  // namespace tandem
