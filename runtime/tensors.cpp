#include "runtime/tensors.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "kernels/kernel_set.h"

namespace tandem {
namespace {

/// A tensor of every layer and the members it becomes: a matrix and its dtype, or a vector.
struct LayerTensor {
  std::string_view suffix;
  TensorKind kind;
  int64_t columns;
  int64_t k;
  MatrixSource LayerWeights::*matrix = nullptr;
  DType LayerDTypes::*dtype = nullptr;
  std::vector<float> LayerWeights::*vector = nullptr;
  int64_t segment = 0;
  bool optional = false;
};

LayerTensor matrix(std::string_view suffix, int64_t columns, int64_t k,
                   MatrixSource LayerWeights::*member, DType LayerDTypes::*dtype,
                   int64_t segment = 0) {
  return {.suffix = suffix,
          .kind = TensorKind::kMatrix,
          .columns = columns,
          .k = k,
          .matrix = member,
          .dtype = dtype,
          .segment = segment};
}

LayerTensor vector(std::string_view suffix, TensorKind kind, int64_t k,
                   std::vector<float> LayerWeights::*member, bool optional = false) {
  return {
      .suffix = suffix, .kind = kind, .columns = 1, .k = k, .vector = member, .optional = optional};
}

std::vector<LayerTensor> layer_tensors(const ModelSpec& spec) {
  using W = LayerWeights;
  using D = LayerDTypes;
  const int64_t hidden = spec.hidden_size, inner = spec.intermediate_size, head = spec.head_dim;
  const int64_t q_size = spec.q_size(), kv_size = spec.num_kv_heads * head;
  const bool bias_optional = spec.architecture != Architecture::kQwen2;
  std::vector<LayerTensor> tensors{
      vector("attn_norm.weight", TensorKind::kNorm, hidden, &W::attn_norm),
      matrix("attn_q.weight", q_size, hidden, &W::q, &D::q, head),
      matrix("attn_k.weight", kv_size, hidden, &W::k, &D::k, head),
      matrix("attn_v.weight", kv_size, hidden, &W::v, &D::v, head),
      vector("attn_q.bias", TensorKind::kBias, q_size, &W::q_bias, bias_optional),
      vector("attn_k.bias", TensorKind::kBias, kv_size, &W::k_bias, bias_optional),
      vector("attn_v.bias", TensorKind::kBias, kv_size, &W::v_bias, bias_optional),
      matrix("attn_output.weight", hidden, q_size, &W::out, &D::out),
      vector("ffn_norm.weight", TensorKind::kNorm, hidden, &W::ffn_norm),
      matrix("ffn_gate.weight", inner, hidden, &W::gate, &D::gate),
      matrix("ffn_up.weight", inner, hidden, &W::up, &D::up),
      matrix("ffn_down.weight", hidden, inner, &W::down, &D::down)};
  if (spec.architecture == Architecture::kQwen3) {
    tensors.push_back(vector("attn_q_norm.weight", TensorKind::kNorm, head, &W::q_norm));
    tensors.push_back(vector("attn_k_norm.weight", TensorKind::kNorm, head, &W::k_norm));
  }
  return tensors;
}

TensorShape shape_of(const LayerTensor& tensor, const ModelSpec& spec, int64_t layer) {
  const bool has_dtype = tensor.dtype && !spec.layers.empty();
  return {.name = fmt::format("blk.{}.{}", layer, tensor.suffix),
          .kind = tensor.kind,
          .columns = tensor.columns,
          .k = tensor.k,
          .dtype = has_dtype ? spec.layers[static_cast<size_t>(layer)].*tensor.dtype : DType::kF32,
          .optional = tensor.optional};
}

TensorShape embedding_shape(const ModelSpec& spec) {
  return {.name = "token_embd.weight",
          .columns = spec.vocab_size,
          .k = spec.hidden_size,
          .dtype = spec.embedding};
}

TensorShape lm_head_shape(const ModelSpec& spec) {
  return {.name = "output.weight",
          .columns = spec.vocab_size,
          .k = spec.hidden_size,
          .dtype = spec.lm_head};
}

TensorShape output_norm_shape(const ModelSpec& spec) {
  return {.name = "output_norm.weight", .kind = TensorKind::kNorm, .k = spec.hidden_size};
}

TensorShape rope_factors_shape(const ModelSpec& spec) {
  return {.name = "rope_freqs.weight",
          .kind = TensorKind::kRopeFactors,
          .k = spec.rope_dim / 2,
          .optional = spec.rope_factors.empty()};
}

MatrixSource source_of(const TensorShape& shape, const TensorBytes& bytes, int64_t segment) {
  return {.dtype = bytes.dtype,
          .columns = shape.columns,
          .k = shape.k,
          .segment = segment,
          .rows = bytes.data};
}

std::vector<float> floats_of(const TensorShape& shape, const TensorBytes& bytes) {
  if (!bytes.data) return {};
  std::vector<float> values(static_cast<size_t>(shape.k));
  dequantize_row(bytes.dtype, bytes.data, shape.k, values.data());
  return values;
}

/// Fills model.layers and the dtypes in model.spec.layers.
template <typename MatrixOf, typename VectorOf>
void bind_layers(const ModelSpec& spec, MatrixOf matrix_of, VectorOf vector_of, Model& model) {
  const std::vector<LayerTensor> per_layer = layer_tensors(spec);
  model.layers.resize(static_cast<size_t>(spec.num_layers));
  model.spec.layers.resize(model.layers.size());
  for (size_t i = 0; i < model.layers.size(); ++i) {
    for (const LayerTensor& tensor : per_layer) {
      const TensorShape shape = shape_of(tensor, spec, static_cast<int64_t>(i));
      if (tensor.vector) {
        model.layers[i].*tensor.vector = vector_of(shape);
      } else {
        model.layers[i].*tensor.matrix = matrix_of(shape, tensor.segment);
        model.spec.layers[i].*tensor.dtype = (model.layers[i].*tensor.matrix).dtype;
      }
    }
  }
}

}  // namespace

std::vector<TensorShape> model_tensors(const ModelSpec& spec) {
  std::vector<TensorShape> tensors{embedding_shape(spec), rope_factors_shape(spec)};
  const std::vector<LayerTensor> per_layer = layer_tensors(spec);
  for (int64_t layer = 0; layer < spec.num_layers; ++layer)
    for (const LayerTensor& tensor : per_layer) tensors.push_back(shape_of(tensor, spec, layer));
  tensors.push_back(output_norm_shape(spec));
  if (!spec.tied_embedding) tensors.push_back(lm_head_shape(spec));
  return tensors;
}

Model bind_tensors(const ModelSpec& spec,
                   const std::function<TensorBytes(const TensorShape&)>& find) {
  Model model;
  model.spec = spec;
  const auto matrix_of = [&find](const TensorShape& shape, int64_t segment) {
    return source_of(shape, find(shape), segment);
  };
  const auto vector_of = [&find](const TensorShape& shape) {
    return floats_of(shape, find(shape));
  };

  model.embedding = matrix_of(embedding_shape(spec), 0);
  model.lm_head = spec.tied_embedding ? model.embedding : matrix_of(lm_head_shape(spec), 0);
  model.output_norm = vector_of(output_norm_shape(spec));
  model.spec.rope_factors = vector_of(rope_factors_shape(spec));
  model.spec.embedding = model.embedding.dtype;
  model.spec.lm_head = model.lm_head.dtype;

  bind_layers(spec, matrix_of, vector_of, model);
  return model;
}

}  // namespace tandem
