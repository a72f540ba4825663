// A model shape for tests: small enough to enumerate, every size a choice.
#pragma once

#include <vector>

#include "sim/model_spec.h"

namespace tandem {

struct TinyShape {
  int64_t hidden = 64;
  int64_t intermediate = 96;
  int64_t kv_heads = 2;
  int64_t group = 2;
  int64_t head_dim = 16;
  int64_t layers = 2;
  int64_t vocab = 112;
  DType dtype = DType::kF32;
};

inline ModelSpec tiny_model(const TinyShape& shape = {}) {
  ModelSpec model;
  model.name = "tiny";
  model.hidden_size = shape.hidden;
  model.intermediate_size = shape.intermediate;
  model.num_layers = shape.layers;
  model.num_heads = shape.kv_heads * shape.group;
  model.num_kv_heads = shape.kv_heads;
  model.head_dim = shape.head_dim;
  model.vocab_size = shape.vocab;
  model.max_context = 8192;
  model.rope_dim = shape.head_dim;
  model.embedding = model.lm_head = shape.dtype;
  const DType d = shape.dtype;
  model.layers.assign(static_cast<size_t>(shape.layers), LayerDTypes{d, d, d, d, d, d, d});
  set_fingerprint(model, "");
  return model;
}

}  // namespace tandem
