// Which tensors a model of some shape is made of, by their GGUF names, and how they become Model's
// weights. Shared by models from a file and models made up from a shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "runtime/model.h"
#include "sim/model_spec.h"

namespace tandem {

enum class TensorKind : uint8_t { kMatrix, kNorm, kBias, kRopeFactors };

/// One tensor: a matrix [columns x k], or a vector of `k` (columns is 1).
struct TensorShape {
  std::string name;
  TensorKind kind = TensorKind::kMatrix;
  int64_t columns = 1;
  int64_t k = 0;
  DType dtype = DType::kF32;  ///< a matrix: as the spec says; a vector: F32
  bool optional = false;      ///< a model of this architecture may lack it
};

/// Every tensor of a model in the order of a file: embedding, layers, output. Dtypes are F32 where
/// spec.layers is empty (not yet known). Rope factors are optional where the spec has none.
std::vector<TensorShape> model_tensors(const ModelSpec& spec);

/// Where a tensor's bytes are and in which dtype; data is null for an optional one that is absent.
struct TensorBytes {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;
};

/// The weights of spec: sources for matrices, F32 copies of vectors (of any dtype), each looked
/// up by name. Sets spec's dtypes and rope_factors from what is found. Storage is the caller's.
Model bind_tensors(const ModelSpec& spec,
                   const std::function<TensorBytes(const TensorShape&)>& find);

}  // namespace tandem
