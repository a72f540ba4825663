// Where a plan's weights and caches come to lie: one copy of the weights per memory, caches per
// unit.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "runtime/model.h"
#include "sim/plan.h"

namespace tandem {

using MatrixHandle = std::shared_ptr<const PlacedMatrix>;

/// The packed matrices of one layer; null where no unit of the memory needs any column.
struct PlacedLayer {
  MatrixHandle q, k, v, out, gate, up, down;
};

/// One memory's copy of the weights that its units need.
struct PlacedWeights {
  std::vector<PlacedLayer> layers;
  MatrixHandle lm_head;
  int64_t bytes = 0;
  bool on_host = true;  ///< the host can read it

  /// The output head where it is the embedding too and all of it lies here: then nobody reads the
  /// source again.
  const PlacedMatrix* tied_embedding(const Model& model) const {
    const bool whole = lm_head && lm_head->resident == Range{0, lm_head->columns};
    return on_host && model.spec.tied_embedding && whole ? lm_head.get() : nullptr;
  }
};

struct PlacementOptions {
  bool whole = false;   ///< every memory holds every column
  bool release = true;  ///< give pages of the source back once placed
  std::function<void(int64_t placed_bytes, int64_t all_bytes)> progress;
};

/// Places what the phases of `plan` need into each memory. Units of one memory share a copy and the
/// work of making it. `memory_of[u]` is the memory of unit u, counted from 0. Result: one entry per
/// memory.
std::vector<PlacedWeights> place_weights(const Model& model, const Plan& plan,
                                         const std::vector<std::unique_ptr<Device>>& devices,
                                         const std::vector<int>& memory_of,
                                         const PlacementOptions& options);

/// A unit's keys and values of one layer; head_dim 0 where it holds none.
struct PlacedKv {
  KvView view;
  std::shared_ptr<std::byte[]> memory;
  std::vector<KvHome> homes;  ///< the cells of the view that are really used
};

/// [unit][layer], for contexts up to max_context.
std::vector<std::vector<PlacedKv>> place_kv(const Model& model, const Plan& plan,
                                            const std::vector<std::unique_ptr<Device>>& devices,
                                            int64_t max_context);

/// Writes seeded values to positions [0, context) of every home: the same for a (layer, head,
/// position) in any plan.
void fill_kv(const std::vector<std::vector<PlacedKv>>& kv,
             const std::vector<std::unique_ptr<Device>>& devices, int64_t context, uint64_t seed);

}  // namespace tandem
