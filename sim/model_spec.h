// The shape of a transformer: what the lowering, the cost and the runtime need to know, and no
// weights.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace tandem {

enum class Architecture : uint8_t { kLlama, kQwen2, kQwen3 };

/// Element types of one layer's matrices; mixes are ordinary, a tensor's own dtype decides.
struct LayerDTypes {
  DType q, k, v, out, gate, up, down;
};

/// HF config.json names.
struct ModelSpec {
  std::string name;
  Architecture architecture = Architecture::kLlama;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_context = 0;  ///< positions the model was made for (max_position_embeddings)
  double rope_theta = 10000;
  int64_t rope_dim = 0;  ///< leading elements of a head that are rotated, usually head_dim
  std::vector<float>
      rope_factors;  ///< [rope_dim / 2] divisors of the frequencies, or empty (Llama 3)
  double norm_eps = 1e-5;
  bool tied_embedding = false;  ///< the output head is the embedding
  DType embedding = DType::kF32;
  DType lm_head = DType::kF32;
  std::vector<LayerDTypes> layers;  ///< [num_layers]
  std::string mix;          ///< what the choice of dtypes is called; "" = one for all, or unknown
  std::string fingerprint;  ///< hash of shape, dtypes and, where there is a file, its tensor table

  int64_t group() const { return num_heads / num_kv_heads; }
  int64_t q_size() const { return num_heads * head_dim; }
  /// Columns of qkv that belong to one kv head: its query heads, its K, its V.
  int64_t qkv_columns_per_kv_head() const { return (group() + 2) * head_dim; }
};

/// The dtype most weight bytes have: what a plan calls the model's dtype.
DType main_dtype(const ModelSpec& model);
/// The mix, or main_dtype()'s name: how a plan names the weights of a shape.
std::string dtype_name(const ModelSpec& model);
/// Of all matrices that steps multiply with.
std::set<DType> used_dtypes(const ModelSpec& model);
/// Bytes of all weights that one decoded token reads: every matrix once, the embedding only where
/// it is tied.
int64_t weight_bytes_per_token(const ModelSpec& model);
/// Sets model.fingerprint (16 hex digits, the same everywhere) from all fields but the name, so
/// that a renamed file stays the same model, mixed with `salt` (e.g. the bytes of the file's tensor
/// table).
void set_fingerprint(ModelSpec& model, const std::string& salt);

}  // namespace tandem
