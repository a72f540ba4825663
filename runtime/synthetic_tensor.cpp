#include "runtime/synthetic_tensor.h"

#include <cstring>
#include <utility>

#include "runtime/synthetic_rows.h"

namespace tandem {
namespace {

std::vector<float> vector_values(const SyntheticTensor& tensor, const ModelSpec& spec) {
  if (tensor.shape.kind == TensorKind::kRopeFactors) return spec.rope_factors;
  std::vector<float> values(static_cast<size_t>(tensor.shape.k));
  const bool is_norm = tensor.shape.kind == TensorKind::kNorm;
  fill_vector(tensor.seed, is_norm ? 1.0f : 0.0f, is_norm ? 0.25f : 0.1f, values);
  return values;
}

}  // namespace

std::vector<SyntheticTensor> synthetic_tensors(const ModelSpec& spec, uint64_t seed) {
  std::vector<SyntheticTensor> tensors;
  for (TensorShape& shape : model_tensors(spec)) {
    if (shape.optional) continue;
    const int64_t bytes = shape.columns * row_bytes(shape.dtype, shape.k);
    tensors.push_back({std::move(shape), mix_seed(seed, tensors.size()), bytes});
  }
  return tensors;
}

void fill_tensor(const SyntheticTensor& tensor, const ModelSpec& spec, Range rows, std::byte* out) {
  if (tensor.shape.kind == TensorKind::kMatrix) {
    fill_rows(tensor.shape.dtype, tensor.shape.k, tensor.seed, rows, out);
  } else {
    const std::vector<float> values = vector_values(tensor, spec);
    std::memcpy(out, values.data(), values.size() * sizeof(float));
  }
}

}  // namespace tandem
