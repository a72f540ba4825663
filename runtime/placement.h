// Where a plan's weights and caches come to lie: one copy of the weights per memory and layout
// (see weight_store()), caches per unit.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "runtime/model.h"
#include "sim/plan.h"

namespace tandem {

/// Disjoint ranges of a matrix's columns, ascending, no two adjacent.
using Pieces = std::vector<std::shared_ptr<const PlacedMatrix>>;
/// A matrix as the units of one memory have it; nothing where none of them needs any.
struct MatrixPieces {
  Pieces resident;
  Pieces streamed;  ///< in host memory
};
/// The piece of that home which holds `columns`: what a task needs always lies in one.
const PlacedMatrix* piece_of(const MatrixPieces& pieces, Range columns,
                             Home home = Home::kResident);

/// The packed matrices of one layer.
struct PlacedLayer {
  MatrixPieces q, k, v, out, gate, up, down;
};

/// One memory's copy of the weights that its units need.
struct PlacedWeights {
  std::vector<PlacedLayer> layers;
  MatrixPieces lm_head;
  int64_t bytes = 0;           ///< resident
  int64_t streamed_bytes = 0;  ///< in host memory
  bool on_host = true;         ///< the host can read it

  /// The output head where it is the embedding too and all of it lies here: then nobody reads the
  /// source again.
  const PlacedMatrix* tied_embedding(const ModelSpec& model) const {
    const bool here = on_host && model.tied_embedding;
    return here ? piece_of(lm_head, {0, model.vocab_size}) : nullptr;
  }
};

struct PlacementOptions {
  bool release = true;  ///< give pages of the source back once placed
  std::function<void(int64_t placed_bytes, int64_t all_bytes)> progress;
};

/// Places what the phases of any of `plans` need into each memory. Units of one memory share a copy
/// and the work of making it. `memory_of[u]` is the memory of unit u, see number_memories().
/// Result: one entry per memory.
std::vector<PlacedWeights> place_weights(const Model& model, std::span<const Plan> plans,
                                         const std::vector<std::unique_ptr<Device>>& devices,
                                         const std::vector<int>& memory_of,
                                         const PlacementOptions& options);

/// Keys and values of some heads and positions.
struct PlacedKv {
  KvView view;
  std::shared_ptr<std::byte[]> memory;
};
/// What a unit holds of one layer: one for each of its homes.
using LayerKv = std::vector<PlacedKv>;

/// Bytes that a view's cells take.
int64_t kv_bytes(const KvView& view);
/// The views, without memory, that a plan's homes of caches for `max_context` positions become:
/// [unit][layer][home].
std::vector<std::vector<std::vector<KvView>>> kv_views(const ModelSpec& spec, const Plan& plan,
                                                       int64_t max_context);

/// [unit][layer], for contexts up to max_context.
std::vector<std::vector<LayerKv>> place_kv(const Model& model, const Plan& plan,
                                           const std::vector<std::unique_ptr<Device>>& devices,
                                           int64_t max_context);
/// The home of a position of a kv head, which all of an attention part shares; an empty view where
/// it lies elsewhere, or beyond the caches.
KvView home_of(const LayerKv& kv, int64_t kv_head, int64_t position);

/// Writes seeded values to positions [0, context) of every home: the same for a (layer, head,
/// position) in any plan.
void fill_kv(const std::vector<std::vector<LayerKv>>& kv,
             const std::vector<std::unique_ptr<Device>>& devices, int64_t context, uint64_t seed);

}  // namespace tandem
