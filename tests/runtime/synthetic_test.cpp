#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/kernel_set.h"
#include "runtime/model.h"
#include "runtime/tokenizer.h"
#include "tests/tuner/run_binary.h"
#include "tests/tuner/tiny_model.h"

namespace tandem {
namespace {

/// A shape of every architecture's peculiarities: biases or norms, factors, tied or not.
ModelSpec shape(Architecture architecture, DType dtype) {
  ModelSpec spec = tiny_model({.vocab = 300, .dtype = dtype});
  spec.architecture = architecture;
  spec.tied_embedding = architecture == Architecture::kQwen2;
  if (architecture == Architecture::kLlama) spec.rope_factors = {1, 1, 1, 1, 2, 4, 8, 8};
  spec.norm_eps = static_cast<float>(1e-6);  // as a GGUF can hold it
  return spec;
}

std::string_view prepared(const Model& model, const MatrixSource& matrix) {
  const int64_t bytes = matrix.columns * row_bytes(matrix.dtype, matrix.k);
  model.storage->prepare(matrix.rows, bytes);
  return {reinterpret_cast<const char*>(matrix.rows), static_cast<size_t>(bytes)};
}

std::vector<MatrixSource> matrices(const Model& model) {
  std::vector<MatrixSource> all{model.embedding, model.lm_head};
  for (const LayerWeights& layer : model.layers)
    all.insert(all.end(), {layer.q, layer.k, layer.v, layer.out, layer.gate, layer.up, layer.down});
  return all;
}

bool same_vectors(const LayerWeights& a, const LayerWeights& b) {
  return a.attn_norm == b.attn_norm && a.ffn_norm == b.ffn_norm && a.q_bias == b.q_bias &&
         a.k_bias == b.k_bias && a.v_bias == b.v_bias && a.q_norm == b.q_norm &&
         a.k_norm == b.k_norm;
}

/// Fingerprint of shape and dtypes alone, whatever the spec came from.
std::string shape_fingerprint(ModelSpec spec) {
  set_fingerprint(spec, "");
  return spec.fingerprint;
}

constexpr std::array kArchitectures{Architecture::kLlama, Architecture::kQwen2,
                                    Architecture::kQwen3};

}  // namespace

TEST_CASE("a written model has the shape and the bytes of the one in memory") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.gguf";
  for (const Architecture architecture : kArchitectures) {
    for (const DTypeInfo& dtype : kCommonDTypes) {
      CAPTURE(static_cast<int>(architecture));
      CAPTURE(dtype.name);
      const ModelSpec spec = shape(architecture, dtype.dtype);
      const Model memory = synthesize_model(spec, 7);
      write_synthetic_gguf(spec, 7, path, {});
      const Model file = open_gguf(path);
      CHECK(shape_fingerprint(file.spec) == shape_fingerprint(spec));
      CHECK(file.spec.name == spec.name);
      const std::vector<MatrixSource> in_memory = matrices(memory), in_file = matrices(file);
      for (size_t i = 0; i < in_memory.size(); ++i)
        CHECK(prepared(memory, in_memory[i]) == prepared(file, in_file[i]));
      CHECK(memory.output_norm == file.output_norm);
      for (size_t i = 0; i < memory.layers.size(); ++i)
        CHECK(same_vectors(memory.layers[i], file.layers[i]));
    }
  }
}

TEST_CASE("the progress of writing ends at all bytes, and nothing but the file is left") {
  const TemporaryFolder folder;
  int64_t done = 0, all = 0;
  write_synthetic_gguf(shape(Architecture::kLlama, DType::kQ4_0), 1, folder / "x.gguf",
                       [&](int64_t bytes, int64_t total) {
                         CHECK(bytes > done);
                         done = bytes;
                         all = total;
                       });
  CHECK(done == all);
  CHECK(done > 0);
  CHECK(folder.names() == std::set<std::string>{"x.gguf"});
}

TEST_CASE("the dummy vocabulary of a written model encodes any text") {
  const TemporaryFolder folder;
  write_synthetic_gguf(shape(Architecture::kLlama, DType::kQ8_0), 1, folder / "x.gguf", {});
  std::string why;
  const auto tokenizer = Tokenizer::open(*open_gguf(folder / "x.gguf").vocabulary, why);
  if (!tokenizer) return;
  // BOS, the space in front as U+2581 (E2 96 81), "h", "i"; byte b is token 3 + b.
  CHECK(tokenizer->encode("hi") ==
        std::vector<int32_t>{1, 3 + 0xe2, 3 + 0x96, 3 + 0x81, 3 + 'h', 3 + 'i'});
}

TEST_CASE("a vocabulary too small for bytes is refused and nothing is written") {
  const TemporaryFolder folder;
  ModelSpec spec = shape(Architecture::kLlama, DType::kF16);
  spec.vocab_size = 258;
  CHECK_THROWS_AS(write_synthetic_gguf(spec, 1, folder / "x.gguf", {}), Error);
  CHECK(folder.names().empty());
}

TEST_CASE("released weights are made again with the same bytes") {
  const Model model = synthesize_model(shape(Architecture::kLlama, DType::kQ4_0), 3);
  const MatrixSource& matrix = model.layers[1].up;
  const std::string before(prepared(model, matrix));
  model.storage->release(matrix.rows, static_cast<int64_t>(before.size()));
  CHECK(matrix.rows[0] == std::byte{0});
  CHECK(prepared(model, matrix) == before);
}

TEST_CASE("weights depend on the seed, and no two rows are alike") {
  const ModelSpec spec = shape(Architecture::kLlama, DType::kQ8_0);
  const Model one = synthesize_model(spec, 1), two = synthesize_model(spec, 2);
  CHECK(prepared(one, one.embedding) != prepared(two, two.embedding));
  std::set<std::string_view> rows;
  size_t count = 0;
  for (const MatrixSource& matrix : matrices(one)) {
    const std::string_view bytes = prepared(one, matrix);
    const auto row = static_cast<size_t>(row_bytes(matrix.dtype, matrix.k));
    for (size_t at = 0; at < bytes.size(); at += row, ++count) rows.insert(bytes.substr(at, row));
  }
  CHECK(rows.size() == count);
}

TEST_CASE("weights have mean 0 and variance 1/k in every dtype") {
  for (const DTypeInfo& dtype : kDTypes) {
    CAPTURE(dtype.name);
    const Model model = synthesize_model(
        tiny_model({.hidden = 512, .intermediate = 1024, .head_dim = 128, .dtype = dtype.dtype}),
        5);
    const MatrixSource& matrix = model.layers[0].gate;  // 1024 x 512 elements
    const std::string_view bytes = prepared(model, matrix);
    std::vector<float> row(512);
    double sum = 0, squares = 0;
    for (int64_t column = 0; column < matrix.columns; ++column) {
      const auto offset = static_cast<size_t>(column * row_bytes(matrix.dtype, matrix.k));
      dequantize_row(matrix.dtype, reinterpret_cast<const std::byte*>(bytes.data() + offset),
                     matrix.k, row.data());
      for (const float x : row) {
        sum += x;
        squares += x * x;
      }
    }
    // n = 2^19 elements of unit variance after scaling by sqrt(k): the mean's deviation is
    // 1/sqrt(n) = 0.0014, the variance's about 0.0013; blocks that share a scale and the 256
    // steps of a table add less than 0.01.
    const double n = 1024.0 * 512.0;
    CHECK(std::abs(sum / n * std::sqrt(512.0)) < 0.01);
    CHECK(squares / n * 512.0 == doctest::Approx(1).epsilon(0.02));
  }
}

}  // namespace tandem
