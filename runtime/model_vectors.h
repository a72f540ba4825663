// The model's small vectors (norms, biases) in exchange memory, where every unit can read them.
#pragma once

#include <span>
#include <vector>

#include "runtime/exchange_memory.h"
#include "runtime/model.h"

namespace tandem {

/// As LayerWeights has them; empty where absent.
struct LayerVectors {
  std::span<const float> attn_norm, ffn_norm;
  std::span<const float> q_bias, k_bias, v_bias;
  std::span<const float> q_norm, k_norm;
};

struct ModelVectors {
  std::vector<LayerVectors> layers;
  std::span<const float> output_norm;
  Block all;  ///< for units that must receive() them once
};

ModelVectors share_vectors(const Model& model, ExchangeMemory& memory);

}  // namespace tandem
