// A whole model in double precision: the truth that executors are tested against. It knows no plan
// and no unit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/reference.h"
#include "runtime/model.h"

namespace tandem {

class ReferenceModel {
 public:
  /// Dequantises every matrix; keeps a reference to `model`. Keys and values are exact, or rounded
  /// to a KV format.
  explicit ReferenceModel(const Model& model, std::optional<DType> kv = {});

  /// Logits [tokens x vocab_size] of one forward pass from an empty context. `parents[t]` is the
  /// index of the token before token t, -1 = none; empty = a chain.
  reference::Matrix logits(std::span<const int32_t> token_ids,
                           std::span<const int32_t> parents = {}) const;

 private:
  struct Layer {
    reference::Matrix q, k, v, out, gate, up, down;
  };
  struct Tokens {
    const int32_t* parents = nullptr;  ///< null = a chain
    std::vector<int64_t> positions;
  };
  reference::Matrix attend(size_t layer, const reference::Matrix& x, const Tokens& tokens) const;
  reference::Matrix feed_forward(size_t layer, const reference::Matrix& x) const;

  const Model& model_;
  std::optional<DType> kv_;
  std::vector<Layer> layers_;
  reference::Matrix lm_head_;
  std::vector<double> frequencies_;
};

/// |actual - exact| / |exact| over all elements (the goldens' measure of error).
double relative_error(std::span<const float> actual, const reference::Matrix& exact);

}  // namespace tandem
