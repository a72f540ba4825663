#include "tuner/model_source.h"

#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "kernels/error.h"
#include "tests/tuner/run_binary.h"

namespace tandem {
namespace {

const std::string kShape = R"(model_type: llama
hidden_size: 64
intermediate_size: 96
num_hidden_layers: 2
num_attention_heads: 4
num_key_value_heads: 2
vocab_size: 300
max_position_embeddings: 512
rms_norm_eps: 1e-5
)";

std::string error_of(const ModelSource& source) {
  try {
    open_spec(source);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// The message for kShape with one line's value changed or a line added, without the folder.
std::string error_with(const std::string& from, const std::string& to) {
  const TemporaryFolder folder;
  std::string text = kShape;
  text.replace(text.find(from), from.size(), to);
  std::ofstream(folder / "shape.yaml") << text;
  const std::string message = error_of({.model = folder / "shape.yaml", .dtype = {}});
  const size_t at = message.find("shape.yaml");
  return at == std::string::npos ? message : message.substr(at);
}

/// Parameters of all matrices, the embedding and a separate head included.
int64_t parameters(const ModelSpec& spec) {
  const int64_t kv = spec.num_kv_heads * spec.head_dim;
  const int64_t layer = 2 * spec.q_size() * spec.hidden_size + 2 * kv * spec.hidden_size +
                        3 * spec.hidden_size * spec.intermediate_size;
  const int64_t tables = spec.tied_embedding ? 1 : 2;
  return spec.num_layers * layer + tables * spec.vocab_size * spec.hidden_size;
}

}  // namespace

TEST_CASE("the compiled-in shapes have the parameter counts of their models") {
  // Published totals, less the norms and biases, which are some 1e5 to 1e6.
  const auto billions = [](const std::string& name) {
    return static_cast<double>(parameters(open_spec({.model = name, .dtype = {}}))) / 1e9;
  };
  CHECK(billions("tinyllama-1.1b") == doctest::Approx(1.100).epsilon(0.001));
  CHECK(billions("llama-3.2-1b") == doctest::Approx(1.236).epsilon(0.001));
  CHECK(billions("llama-3-8b") == doctest::Approx(8.030).epsilon(0.001));
  CHECK(billions("llama-2-7b") == doctest::Approx(6.738).epsilon(0.001));
  CHECK(billions("llama-2-70b") == doctest::Approx(68.98).epsilon(0.001));
  CHECK(billions("qwen2.5-7b") == doctest::Approx(7.616).epsilon(0.001));
  CHECK(shape_names().size() == 6);
}

TEST_CASE("llama3 scaling leaves short waves alone and divides long ones by the factor") {
  const ModelSpec spec = open_spec({.model = "llama-3.2-1b", .dtype = {}});
  REQUIRE(spec.rope_factors.size() == 32);
  CHECK(spec.rope_factors.front() == 1.0f);
  CHECK(spec.rope_factors.back() == 32.0f);
  // Pair 16 of 32: wavelength 2 pi 500000^0.5 = 4442.9, between 8192 / 4 and 8192 / 1:
  // share = (8192 / 4442.9 - 1) / 3 = 0.28128, 1 / (0.71872 / 32 + 0.28128) = 3.2923.
  CHECK(spec.rope_factors[16] == doctest::Approx(3.2923).epsilon(1e-4));
}

TEST_CASE("a shape's dtype is q4_0 unless another is asked for, and it enters the fingerprint") {
  const ModelSpec usual = open_spec({.model = "tinyllama-1.1b", .dtype = {}});
  const ModelSpec wide = open_spec({.model = "tinyllama-1.1b", .dtype = DType::kBF16});
  CHECK(main_dtype(usual) == DType::kQ4_0);
  CHECK(main_dtype(wide) == DType::kBF16);
  CHECK(usual.fingerprint.size() == 16);
  CHECK(usual.fingerprint != wide.fingerprint);
}

TEST_CASE("a shape file is a model, in YAML or as the JSON it comes as") {
  const TemporaryFolder folder;
  std::ofstream(folder / "tiny.yaml") << kShape;
  const Model model = open_model({.model = folder / "tiny.yaml", .dtype = DType::kF16});
  CHECK(model.spec.name == "tiny");
  CHECK(model.layers.size() == 2);
  CHECK(model.layers[0].q.columns == 64);
  CHECK(model.layers[0].k.columns == 32);
  std::ofstream(folder / "config.json")
      << R"({"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "head_dim": 32,
             "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 300,
             "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_scaling": null,
             "attention_bias": false, "torch_dtype": "bfloat16"})";
  const ModelSpec qwen3 = open_spec({.model = folder / "config.json", .dtype = {}});
  CHECK(qwen3.architecture == Architecture::kQwen3);
  CHECK(qwen3.q_size() == 128);
  CHECK(qwen3.num_kv_heads == 4);
  CHECK(qwen3.rope_factors.empty());
}

TEST_CASE("a mistake in a shape file is named with its line") {
  CHECK(error_with("hidden_size: 64", "hidden_size: 0").starts_with("shape.yaml:2: "));
  CHECK(error_with("intermediate_size: 96", "intermediate_size: -1").starts_with("shape.yaml:3: "));
  CHECK(
      error_with("num_key_value_heads: 2", "num_key_value_heads: 3").starts_with("shape.yaml:6: "));
  CHECK(
      error_with("num_attention_heads: 4", "num_attention_heads: 6").starts_with("shape.yaml:5: "));
  CHECK(error_with("model_type: llama", "model_type: gpt2").find("gpt2") != std::string::npos);
  CHECK(error_with("rms_norm_eps: 1e-5\n", "rms_norm_eps: 1e-5\nhiden: 1\n")
            .starts_with("shape.yaml:10: "));
  CHECK(error_with("rms_norm_eps: 1e-5\n", "rms_norm_eps: 1e-5\nattention_bias: true\n")
            .starts_with("shape.yaml:10: "));
  CHECK(error_with("rms_norm_eps: 1e-5\n",
                   "rms_norm_eps: 1e-5\nrope_scaling: {rope_type: yarn, factor: 4.0}\n")
            .find("yarn") != std::string::npos);
  CHECK(error_with("vocab_size: 300\n", "").find("vocab_size") != std::string::npos);
  CHECK(error_with("hidden_size: 64", "hidden_size: 72").find("multiple of 32") !=
        std::string::npos);
}

TEST_CASE("a model that is neither file nor shape is refused with the shapes there are") {
  CHECK(error_of({.model = "nonesuch", .dtype = {}}).find("tinyllama-1.1b") != std::string::npos);
  const std::string file = std::string(TANDEM_SOURCE_DIR) + "/tests/data/llama-q8_0.gguf";
  CHECK(error_of({.model = file, .dtype = DType::kQ4_0}).find("q8_0, not q4_0") !=
        std::string::npos);
  CHECK(error_of({.model = file, .dtype = DType::kQ8_0}).empty());
}

}  // namespace tandem
