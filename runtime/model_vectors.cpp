#include "runtime/model_vectors.h"

#include <algorithm>
#include <utility>

namespace tandem {
namespace {

constexpr std::pair<std::vector<float> LayerWeights::*, std::span<const float> LayerVectors::*>
    kLayerVectors[] = {{&LayerWeights::attn_norm, &LayerVectors::attn_norm},
                       {&LayerWeights::ffn_norm, &LayerVectors::ffn_norm},
                       {&LayerWeights::q_bias, &LayerVectors::q_bias},
                       {&LayerWeights::k_bias, &LayerVectors::k_bias},
                       {&LayerWeights::v_bias, &LayerVectors::v_bias},
                       {&LayerWeights::q_norm, &LayerVectors::q_norm},
                       {&LayerWeights::k_norm, &LayerVectors::k_norm}};

/// Vectors begin on cache lines.
int64_t padded(const std::vector<float>& vector) { return round_up(std::ssize(vector), 16); }

}  // namespace

ModelVectors share_vectors(const Model& model, ExchangeMemory& memory) {
  int64_t floats = padded(model.output_norm);
  for (const LayerWeights& layer : model.layers)
    for (const auto& [source, shared] : kLayerVectors) floats += padded(layer.*source);
  std::span<float> left = memory.take<float>(floats);
  ModelVectors vectors;
  const auto bytes = static_cast<int64_t>(left.size_bytes());
  vectors.all = {.data = reinterpret_cast<std::byte*>(left.data()),
                 .rows = 1,
                 .bytes = bytes,
                 .stride = bytes};
  const auto copy = [&left](const std::vector<float>& vector) -> std::span<const float> {
    const std::span<float> piece = left.first(vector.size());
    std::copy(vector.begin(), vector.end(), piece.begin());
    left = left.subspan(static_cast<size_t>(padded(vector)));
    return piece;
  };
  for (const LayerWeights& layer : model.layers) {
    LayerVectors& shared = vectors.layers.emplace_back();
    for (const auto& [from, to] : kLayerVectors) shared.*to = copy(layer.*from);
  }
  vectors.output_norm = copy(model.output_norm);
  return vectors;
}

}  // namespace tandem
