#include "sim/model_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

namespace tandem {
namespace {

constexpr int64_t matrix_bytes(DType dtype, int64_t columns, int64_t k) {
  return columns * row_bytes(dtype, k);
}

/// Calls visit(dtype, columns, k) for the seven matrices of every layer.
template <typename Visit>
void for_each_layer_matrix(const ModelSpec& model, Visit visit) {
  const int64_t hidden = model.hidden_size;
  const int64_t kv_size = model.num_kv_heads * model.head_dim;
  for (const LayerDTypes& layer : model.layers) {
    visit(layer.q, model.q_size(), hidden);
    visit(layer.k, kv_size, hidden);
    visit(layer.v, kv_size, hidden);
    visit(layer.out, hidden, model.q_size());
    visit(layer.gate, model.intermediate_size, hidden);
    visit(layer.up, model.intermediate_size, hidden);
    visit(layer.down, hidden, model.intermediate_size);
  }
}

/// FNV-1a, 64 bit (Fowler, Noll, Vo): stable over machines and builds, which std::hash is not.
uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace

DType main_dtype(const ModelSpec& model) {
  std::array<int64_t, kDTypes.size()> bytes{};
  const auto count = [&bytes](DType dtype, int64_t columns, int64_t k) {
    bytes[static_cast<size_t>(dtype)] += matrix_bytes(dtype, columns, k);
  };
  for_each_layer_matrix(model, count);
  count(model.embedding, model.vocab_size, model.hidden_size);
  if (!model.tied_embedding) count(model.lm_head, model.vocab_size, model.hidden_size);
  return static_cast<DType>(std::ranges::max_element(bytes) - bytes.begin());
}

std::string dtype_name(const ModelSpec& model) {
  return model.mix.empty() ? std::string(name(main_dtype(model))) : model.mix;
}

std::set<DType> used_dtypes(const ModelSpec& model) {
  std::set<DType> used{model.lm_head};
  for_each_layer_matrix(model, [&used](DType dtype, int64_t, int64_t) { used.insert(dtype); });
  return used;
}

int64_t weight_bytes_per_token(const ModelSpec& model) {
  int64_t total = matrix_bytes(model.lm_head, model.vocab_size, model.hidden_size);
  for_each_layer_matrix(model, [&total](DType dtype, int64_t columns, int64_t k) {
    total += matrix_bytes(dtype, columns, k);
  });
  return total;
}

void set_fingerprint(ModelSpec& model, const std::string& salt) {
  std::string text =
      fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {};",
                  static_cast<int>(model.architecture), model.hidden_size, model.intermediate_size,
                  model.num_layers, model.num_heads, model.num_kv_heads, model.head_dim,
                  model.vocab_size, model.max_context, model.rope_theta, model.rope_dim,
                  model.norm_eps, model.tied_embedding, name(model.embedding), name(model.lm_head));
  for (const float factor : model.rope_factors)
    fmt::format_to(std::back_inserter(text), "{} ", factor);
  for (const LayerDTypes& layer : model.layers)
    for (const DType dtype :
         {layer.q, layer.k, layer.v, layer.out, layer.gate, layer.up, layer.down})
      fmt::format_to(std::back_inserter(text), "{} ", name(dtype));
  model.fingerprint = fmt::format("{:016x}", fnv1a(text + salt));
}

}  // namespace tandem
