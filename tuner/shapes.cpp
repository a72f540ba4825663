#include "tuner/shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/kernel_set.h"
#include "profiles/checked_yaml.h"

namespace tandem {
namespace {

/// Ten times what models have, so that no product of a shape's sizes overflows and no plan of it
/// takes minutes.
constexpr int64_t kMaxSize = int64_t{1} << 20;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxVocabulary = int64_t{1} << 22;
constexpr int64_t kMaxContext = int64_t{1} << 30;
constexpr int64_t kMaxLayers = 1024;

void check_keys(const CheckedYaml& shape) {
  shape.allow_keys({"model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
                    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
                    "rope_theta", "rope_scaling", "rms_norm_eps", "max_position_embeddings",
                    "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act",
                    "sliding_window", "use_sliding_window",
                    // Of a config.json, but without meaning for speed or result here:
                    "architectures", "_name_or_path", "transformers_version", "torch_dtype",
                    "dtype", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
                    "use_cache", "pretraining_tp", "attention_dropout", "max_window_layers"});
}

int64_t size_at(const CheckedYaml& shape, std::string_view key, int64_t most = kMaxSize) {
  return shape.at(key).integer(1, most);
}

/// The value of an optional key; JSON's null counts as absent.
std::optional<CheckedYaml> find_value(const CheckedYaml& map, std::string_view key) {
  const std::optional<CheckedYaml> value = map.find(key);
  const bool null = value && !value->is_map() && !value->is_list() && !value->is_scalar();
  return null ? std::nullopt : value;
}

/// A positive number rounded to the float that a GGUF would hold.
double float_in(const CheckedYaml& value) {
  return static_cast<double>(static_cast<float>(value.number(1e-12, 1e12)));
}

Architecture read_architecture(const CheckedYaml& model_type) {
  const std::string type = model_type.text();
  if (type == "llama" || type == "mistral") return Architecture::kLlama;
  if (type == "qwen2") return Architecture::kQwen2;
  if (type == "qwen3") return Architecture::kQwen3;
  model_type.fail(fmt::format("is '{}', supported are llama, mistral, qwen2, qwen3", type));
}

/// Error where an optional switch is not as our layers compute.
void expect_flag(const CheckedYaml& shape, std::string_view key, bool expected) {
  const std::optional<CheckedYaml> value = find_value(shape, key);
  if (value && value->boolean() != expected)
    value->fail(fmt::format("is {}, supported here is {}", !expected, expected));
}

void check_computation(const CheckedYaml& shape, Architecture architecture) {
  expect_flag(shape, "attention_bias", architecture == Architecture::kQwen2);
  expect_flag(shape, "mlp_bias", false);
  expect_flag(shape, "use_sliding_window", false);
  const std::optional<CheckedYaml> activation = find_value(shape, "hidden_act");
  if (activation && activation->text() != "silu")
    activation->fail(fmt::format("is '{}', supported is silu", activation->text()));
}

void read_heads(const CheckedYaml& shape, ModelSpec& spec) {
  spec.num_heads = size_at(shape, "num_attention_heads", kMaxHeads);
  spec.num_kv_heads = spec.num_heads;
  if (const auto kv_heads = find_value(shape, "num_key_value_heads")) {
    spec.num_kv_heads = kv_heads->integer(1, spec.num_heads);
    if (spec.num_heads % spec.num_kv_heads != 0)
      kv_heads->fail(
          fmt::format("is {}, expected a divisor of {} heads", spec.num_kv_heads, spec.num_heads));
  }
  const auto head_dim = find_value(shape, "head_dim");
  const CheckedYaml& place = head_dim ? *head_dim : shape.at("num_attention_heads");
  if (!head_dim && spec.hidden_size % spec.num_heads != 0)
    place.fail(fmt::format("is {}, expected a divisor of hidden_size {}, or head_dim",
                           spec.num_heads, spec.hidden_size));
  spec.head_dim = head_dim ? head_dim->integer(2, kMaxHeadDim) : spec.hidden_size / spec.num_heads;
  if (spec.head_dim % 2 != 0 || spec.head_dim > kMaxHeadDim)
    place.fail(fmt::format("makes heads of {} elements, expected an even number up to {}",
                           spec.head_dim, kMaxHeadDim));
  spec.rope_dim = spec.head_dim;
}

/// Divisors of the frequencies: 1 for short waves, `factor` for waves longer than the context the
/// model was first trained on, smooth between (transformers, _compute_llama3_parameters).
std::vector<float> llama3_factors(const CheckedYaml& scaling, const ModelSpec& spec) {
  const double factor = scaling.at("factor").number(1, 1e6);
  const double low = scaling.at("low_freq_factor").number(1e-6, 1e6);
  const double high = scaling.at("high_freq_factor").number(1e-6, 1e6);
  const double context =
      static_cast<double>(size_at(scaling, "original_max_position_embeddings", kMaxContext));
  if (high <= low) scaling.at("high_freq_factor").fail("must be above low_freq_factor");
  std::vector<float> factors;
  for (int64_t i = 0; i < spec.rope_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(spec.rope_dim);
    const double wavelength = 2 * std::numbers::pi * std::pow(spec.rope_theta, exponent);
    const double share = std::clamp((context / wavelength - low) / (high - low), 0.0, 1.0);
    factors.push_back(static_cast<float>(1 / ((1 - share) / factor + share)));
  }
  return factors;
}

void read_rope(const CheckedYaml& shape, ModelSpec& spec) {
  if (const auto theta = find_value(shape, "rope_theta")) spec.rope_theta = float_in(*theta);
  const auto scaling = find_value(shape, "rope_scaling");
  if (!scaling) return;
  scaling->allow_keys({"rope_type", "type", "factor", "low_freq_factor", "high_freq_factor",
                       "original_max_position_embeddings"});
  const auto old_key = scaling->find("type");
  const CheckedYaml type = old_key ? *old_key : scaling->at("rope_type");
  if (type.text() == "llama3")
    spec.rope_factors = llama3_factors(*scaling, spec);
  else if (type.text() != "default")
    type.fail(fmt::format("is '{}', supported are default, llama3", type.text()));
}

int64_t read_max_context(const CheckedYaml& shape) {
  const int64_t positions = size_at(shape, "max_position_embeddings", kMaxContext);
  // Mistral attends to a window only; within it a sliding window changes nothing.
  const auto window = find_value(shape, "sliding_window");
  const bool applies = window && shape.at("model_type").text() == "mistral";
  return applies ? std::min(positions, window->integer(1, kMaxContext)) : positions;
}

ModelSpec read_shape(const CheckedYaml& shape, std::string name) {
  check_keys(shape);
  ModelSpec spec;
  spec.name = std::move(name);
  spec.architecture = read_architecture(shape.at("model_type"));
  check_computation(shape, spec.architecture);
  spec.hidden_size = size_at(shape, "hidden_size");
  spec.intermediate_size = size_at(shape, "intermediate_size");
  spec.num_layers = size_at(shape, "num_hidden_layers", kMaxLayers);
  spec.vocab_size = size_at(shape, "vocab_size", kMaxVocabulary);
  read_heads(shape, spec);
  read_rope(shape, spec);
  spec.max_context = read_max_context(shape);
  spec.norm_eps = float_in(shape.at("rms_norm_eps"));
  if (const auto tied = find_value(shape, "tie_word_embeddings"))
    spec.tied_embedding = tied->boolean();
  return spec;
}

}  // namespace

ModelSpec read_shape_file(const std::string& path) {
  return read_shape(CheckedYaml::load(path), std::filesystem::path(path).stem().string());
}

ModelSpec read_compiled_shape(const CompiledShape& shape) {
  const std::string name(shape.name);
  return read_shape(CheckedYaml::tree(YAML::Load(std::string(shape.text)), name), name);
}

}  // namespace tandem
