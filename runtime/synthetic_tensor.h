// The tensors of a made-up model: which there are, and the bytes of each, in memory or for a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/range.h"
#include "runtime/tensors.h"
#include "sim/model_spec.h"

namespace tandem {

struct SyntheticTensor {
  TensorShape shape;
  uint64_t seed = 0;
  int64_t bytes = 0;
};

/// Those of model_tensors(spec) that the architecture requires, each with a seed of its own.
std::vector<SyntheticTensor> synthetic_tensors(const ModelSpec& spec, uint64_t seed);

/// Writes rows (of shape.columns; a vector is one row) in file format. Norms are near 1, biases
/// near 0, rope factors are the spec's.
void fill_tensor(const SyntheticTensor& tensor, const ModelSpec& spec, Range rows, std::byte* out);

}  // namespace tandem
