#include <algorithm>
#include <cassert>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/mapping.h"
#include "runtime/model.h"
#include "runtime/synthetic_tensor.h"

namespace tandem {
namespace {

/// No two matrices share a page, so each can be given back to its last byte.
constexpr int64_t kPageBytes = 4096;

/// Address space for all matrices of a model, each of which is made when it is asked for.
class SyntheticStorage final : public WeightStorage {
 public:
  SyntheticStorage(const ModelSpec& spec, const std::vector<SyntheticTensor>& tensors)
      : spec_(spec), mapping_(Mapping::reserve(mapped_bytes(tensors))) {
    int64_t offset = 0;
    for (const SyntheticTensor& tensor : tensors) {
      if (tensor.shape.kind != TensorKind::kMatrix) continue;
      matrices_.emplace(offset, tensor);
      offsets_.emplace(tensor.shape.name, offset);
      offset += round_up(tensor.bytes, kPageBytes);
    }
  }

  const std::byte* address(const std::string& name) const {
    return mapping_.data() + offsets_.at(name);
  }

  void prepare(const std::byte* data, [[maybe_unused]] int64_t bytes) override {
    const auto matrix = matrices_.find(data - mapping_.data());
    assert(matrix != matrices_.end() && matrix->second.bytes == bytes);
    const SyntheticTensor& tensor = matrix->second;
    fill_tensor(tensor, spec_, {0, tensor.shape.columns}, mapping_.data() + matrix->first);
  }

  void release(const std::byte* data, int64_t bytes) override {
    mapping_.release(data, round_up(bytes, kPageBytes));
  }

 private:
  static int64_t mapped_bytes(const std::vector<SyntheticTensor>& tensors) {
    int64_t total = 0;
    for (const SyntheticTensor& tensor : tensors)
      if (tensor.shape.kind == TensorKind::kMatrix) total += round_up(tensor.bytes, kPageBytes);
    return total;
  }

  ModelSpec spec_;
  Mapping mapping_;
  std::map<int64_t, SyntheticTensor> matrices_;  ///< by offset in the mapping
  std::map<std::string, int64_t> offsets_;       ///< by name
};

}  // namespace

Model synthesize_model(const ModelSpec& spec, uint64_t seed) {
  const std::vector<SyntheticTensor> tensors = synthetic_tensors(spec, seed);
  const auto storage = std::make_shared<SyntheticStorage>(spec, tensors);
  std::map<std::string, const SyntheticTensor*> vectors;
  for (const SyntheticTensor& tensor : tensors)
    if (tensor.shape.kind != TensorKind::kMatrix) vectors.emplace(tensor.shape.name, &tensor);

  std::vector<std::byte> vector_bytes;
  Model model = bind_tensors(spec, [&](const TensorShape& shape) -> TensorBytes {
    if (shape.kind == TensorKind::kMatrix) return {shape.dtype, storage->address(shape.name)};
    const auto vector = vectors.find(shape.name);
    if (vector == vectors.end()) return {};
    vector_bytes.resize(static_cast<size_t>(vector->second->bytes));
    fill_tensor(*vector->second, spec, {0, 1}, vector_bytes.data());
    return {shape.dtype, vector_bytes.data()};
  });
  model.storage = storage;
  return model;
}

}  // namespace tandem
