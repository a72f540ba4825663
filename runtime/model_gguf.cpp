#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/error.h"
#include "kernels/kernel_set.h"
#include "runtime/gguf.h"
#include "runtime/gguf_metadata.h"
#include "runtime/gguf_vocabulary.h"
#include "runtime/mapping.h"
#include "runtime/model.h"
#include "runtime/tensors.h"

namespace tandem {
namespace {

/// Of any size that a header states, so that products of two never overflow.
constexpr int64_t kMaxSize = int64_t{1} << 30;

class MappedStorage final : public WeightStorage {
 public:
  explicit MappedStorage(Mapping mapping) : mapping_(std::move(mapping)) {}
  void release(const std::byte* data, int64_t bytes) override { mapping_.release(data, bytes); }

 private:
  Mapping mapping_;
};

Architecture read_architecture(const GgufMetadata& metadata, std::string& prefix) {
  const std::optional<std::string> name = metadata.text("general.architecture");
  if (!name) metadata.fail_missing("general.architecture");
  prefix = *name;
  if (*name == "llama") return Architecture::kLlama;
  if (*name == "qwen2") return Architecture::kQwen2;
  if (*name == "qwen3") return Architecture::kQwen3;
  metadata.fail("general.architecture",
                fmt::format("is '{}', supported are llama, qwen2, qwen3", printable(*name)));
}

/// Frequencies scaled by anything but rope_freqs.weight would be computed wrongly, so they are
/// refused.
void check_rope_scaling(const GgufMetadata& metadata, const std::string& prefix) {
  const std::string type_key = prefix + ".rope.scaling.type";
  const std::string type = metadata.text(type_key).value_or("linear");
  if (type != "none" && type != "linear")
    metadata.fail(type_key,
                  fmt::format("is '{}', supported are none and linear by 1", printable(type)));
  for (const std::string key : {".rope.scaling.factor", ".rope.scale_linear"}) {
    const double factor = metadata.real(prefix + key).value_or(1);
    if (type == "linear" && factor != 1 && factor != 0)
      metadata.fail(prefix + key, fmt::format("is {}, supported is 1", factor));
  }
}

void read_attention(const GgufMetadata& metadata, const std::string& prefix, ModelSpec& spec) {
  const std::string heads_key = prefix + ".attention.head_count";
  const std::string kv_heads_key = prefix + ".attention.head_count_kv";
  const std::string dim_key = prefix + ".attention.key_length";
  spec.num_heads = metadata.integer_in(heads_key, 1, kMaxSize);
  spec.num_kv_heads = metadata.integer_in(kv_heads_key, 1, spec.num_heads, spec.num_heads);
  if (spec.num_heads % spec.num_kv_heads != 0)
    metadata.fail(kv_heads_key, fmt::format("is {}, expected a divisor of {} heads",
                                            spec.num_kv_heads, spec.num_heads));
  const int64_t usual_dim = spec.hidden_size / spec.num_heads;
  spec.head_dim = metadata.integer_in(dim_key, 2, kMaxHeadDim, usual_dim);
  if (spec.head_dim < 2 || spec.head_dim > kMaxHeadDim || spec.head_dim % 2 != 0)
    metadata.fail(heads_key, fmt::format("makes heads of {} elements, expected an even number up "
                                         "to {}",
                                         spec.head_dim, kMaxHeadDim));
  metadata.integer_in(prefix + ".attention.value_length", spec.head_dim, spec.head_dim,
                      spec.head_dim);
  const std::string rope_key = prefix + ".rope.dimension_count";
  spec.rope_dim = metadata.integer_in(rope_key, 2, spec.head_dim, spec.head_dim);
  if (spec.rope_dim % 2 != 0)
    metadata.fail(rope_key, fmt::format("is {}, expected an even number", spec.rope_dim));
}

/// The name a model carries, or its file's where that is no plain word.
std::string model_name(const GgufMetadata& metadata, const std::string& path) {
  const std::string name = metadata.text("general.name").value_or("");
  const bool plain = !name.empty() && printable(name) == name;
  return plain ? name : std::filesystem::path(path).stem().string();
}

int64_t read_vocab_size(const Gguf& gguf) {
  const auto embedding = gguf.tensors.find("token_embd.weight");
  if (embedding == gguf.tensors.end())
    throw Error(gguf.path + ": tensor 'token_embd.weight' is missing");
  const GgufTensor& tensor = embedding->second;
  if (tensor.dims.size() != 2 || tensor.dims[1] > kMaxSize)
    fail_at_byte(gguf.path, tensor.byte,
                 "tensor 'token_embd.weight' has other dimensions than [hidden_size, vocab_size]");
  return tensor.dims[1];
}

/// Everything that the header says of the shape; dtypes and rope factors follow with the tensors.
ModelSpec read_shape(const Gguf& gguf) {
  const GgufMetadata metadata(gguf);
  ModelSpec spec;
  std::string prefix;
  spec.architecture = read_architecture(metadata, prefix);
  spec.name = model_name(metadata, gguf.path);
  constexpr int64_t kMaxLayers = 10000;
  spec.num_layers = metadata.integer_in(prefix + ".block_count", 1, kMaxLayers);
  spec.hidden_size = metadata.integer_in(prefix + ".embedding_length", 1, kMaxSize);
  spec.intermediate_size = metadata.integer_in(prefix + ".feed_forward_length", 1, kMaxSize);
  read_attention(metadata, prefix, spec);
  spec.vocab_size = read_vocab_size(gguf);
  spec.max_context = metadata.integer_in(prefix + ".context_length", 1, kMaxSize);
  // Within its window a sliding window changes nothing, and that far we go.
  spec.max_context = std::min(
      spec.max_context,
      metadata.integer_in(prefix + ".attention.sliding_window", 1, kMaxSize, spec.max_context));
  spec.rope_theta = metadata.positive(prefix + ".rope.freq_base", spec.rope_theta);
  spec.norm_eps = metadata.positive(prefix + ".attention.layer_norm_rms_epsilon");
  spec.tied_embedding = !gguf.tensors.contains("output.weight");
  check_rope_scaling(metadata, prefix);
  return spec;
}

std::string dims_text(const std::vector<int64_t>& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

/// The tensor of that name, whose dimensions must be those of the shape; null where it may be
/// absent.
const GgufTensor* find_tensor(const Gguf& gguf, const TensorShape& shape) {
  const auto found = gguf.tensors.find(shape.name);
  if (found == gguf.tensors.end()) {
    if (shape.optional) return nullptr;
    throw Error(fmt::format("{}: tensor '{}' is missing", gguf.path, shape.name));
  }
  std::vector<int64_t> expected{shape.k};
  if (shape.kind == TensorKind::kMatrix) expected.push_back(shape.columns);
  if (found->second.dims != expected)
    fail_at_byte(gguf.path, found->second.byte,
                 fmt::format("tensor '{}' is {}, expected {}", shape.name,
                             dims_text(found->second.dims), dims_text(expected)));
  return &found->second;
}

/// A tensor that we would ignore means a computation that we would not do.
void refuse_others(const Gguf& gguf, const ModelSpec& spec) {
  std::map<std::string, GgufTensor, std::less<>> others = gguf.tensors;
  for (const TensorShape& shape : model_tensors(spec)) others.erase(shape.name);
  if (others.empty()) return;
  const auto& [name, tensor] = *others.begin();
  fail_at_byte(gguf.path, tensor.byte,
               fmt::format("tensor '{}' is none of a dense llama, qwen2 or qwen3 model of {} "
                           "layers",
                           printable(name), spec.num_layers));
}

void check_rope_factors(const Gguf& gguf, const ModelSpec& spec) {
  for (const float factor : spec.rope_factors)
    if (!std::isfinite(factor) || factor <= 0)
      fail_at_byte(gguf.path, gguf.tensors.find("rope_freqs.weight")->second.byte,
                   fmt::format("rope_freqs.weight holds {}, expected numbers above 0", factor));
}

/// The model of a parsed file, whose mapping is yet to be handed over.
Model bind_model(const Gguf& gguf) {
  const ModelSpec shape = read_shape(gguf);
  refuse_others(gguf, shape);
  Model model = bind_tensors(shape, [&gguf](const TensorShape& wanted) {
    const GgufTensor* tensor = find_tensor(gguf, wanted);
    return tensor ? TensorBytes{tensor->dtype, tensor->data.data()} : TensorBytes{};
  });
  check_rope_factors(gguf, model.spec);
  set_fingerprint(model.spec, std::string(gguf.tensor_table));
  return model;
}

}  // namespace

Model open_gguf(const std::string& path) {
  Mapping mapping = Mapping::of_file(path);
  const Gguf gguf = parse_gguf(path, mapping.bytes());
  Model model = bind_model(gguf);
  model.vocabulary = read_vocabulary(gguf, model.spec.vocab_size);
  model.storage = std::make_shared<MappedStorage>(std::move(mapping));
  return model;
}

ModelSpec read_gguf_spec(const std::string& path) {
  const Mapping mapping = Mapping::of_file(path);
  return bind_model(parse_gguf(path, mapping.bytes())).spec;
}

}  // namespace tandem
