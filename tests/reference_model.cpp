#include "tests/reference_model.h"

#include <cmath>

#include "kernels/rope.h"

namespace tandem {
namespace {

using reference::Matrix;

/// Position of each token: the length of its path from the root.
std::vector<int64_t> depths(size_t tokens, std::span<const int32_t> parents) {
  std::vector<int64_t> depth(tokens);
  for (size_t t = 0; t < tokens; ++t) {
    const int64_t parent = parents.empty() ? static_cast<int64_t>(t) - 1 : parents[t];
    depth[t] = parent < 0 ? 0 : depth[parent] + 1;
  }
  return depth;
}

}  // namespace

ReferenceModel::ReferenceModel(const Model& model, std::optional<DType> kv)
    : model_(model),
      kv_(kv),
      lm_head_(reference::dequantize(model.lm_head)),
      frequencies_(inverse_frequencies(model.spec.rope_theta, model.spec.rope_dim,
                                       model.spec.rope_factors)) {
  using reference::dequantize;
  for (const LayerWeights& layer : model.layers)
    layers_.push_back({dequantize(layer.q), dequantize(layer.k), dequantize(layer.v),
                       dequantize(layer.out), dequantize(layer.gate), dequantize(layer.up),
                       dequantize(layer.down)});
}

Matrix ReferenceModel::logits(std::span<const int32_t> token_ids,
                              std::span<const int32_t> parents) const {
  const Tokens tokens{parents.empty() ? nullptr : parents.data(),
                      depths(token_ids.size(), parents)};
  Matrix x = reference::embed(model_.embedding, token_ids);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    x += attend(layer, x, tokens);
    x += feed_forward(layer, x);
  }
  return reference::linear(reference::rms_norm(x, model_.output_norm, model_.spec.norm_eps),
                           lm_head_);
}

Matrix ReferenceModel::attend(size_t layer, const Matrix& x, const Tokens& tokens) const {
  const ModelSpec& spec = model_.spec;
  const LayerWeights& weights = model_.layers[layer];
  const Matrix input = reference::rms_norm(x, weights.attn_norm, spec.norm_eps);
  Matrix q = reference::linear(input, layers_[layer].q, weights.q_bias);
  Matrix k = reference::linear(input, layers_[layer].k, weights.k_bias);
  Matrix v = reference::linear(input, layers_[layer].v, weights.v_bias);
  if (!weights.q_norm.empty()) q = reference::rms_norm(q, weights.q_norm, spec.norm_eps);
  if (!weights.k_norm.empty()) k = reference::rms_norm(k, weights.k_norm, spec.norm_eps);
  const RopeOrder order =
      spec.architecture == Architecture::kLlama ? RopeOrder::kNormal : RopeOrder::kNeox;
  reference::rope(q, spec.head_dim, order, tokens.positions, frequencies_);
  reference::rope(k, spec.head_dim, order, tokens.positions, frequencies_);
  if (kv_) {
    k = reference::kv_rounded(*kv_, k);
    v = reference::kv_rounded(*kv_, v);
  }
  const Matrix none;
  const auto state =
      reference::attention({.q = q,
                            .cached_keys = none,
                            .cached_values = none,
                            .new_keys = k,
                            .new_values = v,
                            .parents = tokens.parents,
                            .head_dim = spec.head_dim,
                            .group = spec.group(),
                            .scale = 1 / std::sqrt(static_cast<double>(spec.head_dim))});
  return reference::linear(reference::attention_output(state), layers_[layer].out);
}

Matrix ReferenceModel::feed_forward(size_t layer, const Matrix& x) const {
  const Matrix input = reference::rms_norm(x, model_.layers[layer].ffn_norm, model_.spec.norm_eps);
  const Matrix hidden = reference::swiglu(reference::linear(input, layers_[layer].gate),
                                          reference::linear(input, layers_[layer].up));
  return reference::linear(hidden, layers_[layer].down);
}

double relative_error(std::span<const float> actual, const Matrix& exact) {
  return (reference::from_floats(actual.data(), exact.rows(), exact.cols()) - exact).norm() /
         exact.norm();
}

}  // namespace tandem
