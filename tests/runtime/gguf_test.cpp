#include "runtime/gguf.h"

#include <doctest/doctest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "runtime/gguf_vocabulary.h"
#include "runtime/gguf_writer.h"
#include "runtime/model.h"
#include "tests/tuner/run_binary.h"

namespace tandem {
namespace {

const std::string kData = std::string(TANDEM_SOURCE_DIR) + "/tests/data/";

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// What opening the file says, or "" where it opens.
std::string error_of(const std::filesystem::path& path) {
  try {
    open_gguf(path.string());
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

std::string parse_error(const std::string& bytes) {
  try {
    parse_gguf("x.gguf", std::as_bytes(std::span(bytes)));
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// The bytes of a file with `from` replaced by the equally long `to`, at its first place.
std::string replaced(std::string bytes, const std::string& from, const std::string& to) {
  REQUIRE(from.size() == to.size());
  const size_t at = bytes.find(from);
  REQUIRE(at != std::string::npos);
  return bytes.replace(at, from.size(), to);
}

/// A header of one tensor, [32, 2] of F32 (256 bytes), whose data follow.
std::string small_file(const std::function<void(GgufHeader&)>& add) {
  GgufHeader header;
  add(header);
  header.add_tensor("w", std::vector<int64_t>{32, 2}, DType::kF32, 256);
  return header.bytes() + std::string(256, 'x');
}

/// Reads the first and last byte of every matrix, so that a sanitizer sees a wrong address.
int touch(const Model& model) {
  int sum = 0;
  const auto read = [&sum](const MatrixSource& matrix) {
    sum += std::to_integer<int>(matrix.rows[0]);
    sum +=
        std::to_integer<int>(matrix.rows[matrix.columns * row_bytes(matrix.dtype, matrix.k) - 1]);
  };
  read(model.embedding);
  read(model.lm_head);
  for (const LayerWeights& layer : model.layers)
    for (const MatrixSource* matrix :
         {&layer.q, &layer.k, &layer.v, &layer.out, &layer.gate, &layer.up, &layer.down})
      read(*matrix);
  return sum;
}

/// Opens a broken file: whether it is refused with a one-line message, or opened and readable.
bool survives(const std::filesystem::path& path) {
  try {
    return touch(open_gguf(path.string())) >= 0;
  } catch (const Error& error) {
    const std::string message = error.what();
    return message.starts_with(path.string()) && message.find('\n') == std::string::npos;
  }
}

}  // namespace

TEST_CASE("every reference model opens with the shape its README gives") {
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kData)) {
    if (entry.path().extension() != ".gguf") continue;
    CAPTURE(entry.path().string());
    const Model model = open_gguf(entry.path().string());
    ++models;
    CHECK(model.spec.vocab_size == 512);
    REQUIRE(model.vocabulary);
    CHECK(model.vocabulary->tokens.size() == 512);
    CHECK(static_cast<int64_t>(model.layers.size()) == model.spec.num_layers);
    CHECK(read_gguf_spec(entry.path().string()).fingerprint == model.spec.fingerprint);
    CHECK(model.spec.norm_eps == doctest::Approx(1e-5));
  }
  CHECK(models >= 10);
}

TEST_CASE("what distinguishes an architecture is read") {
  const Model llama = open_gguf(kData + "llama-q8_0.gguf");
  CHECK(llama.spec.architecture == Architecture::kLlama);
  CHECK(llama.spec.num_heads == 8);
  CHECK(llama.spec.num_kv_heads == 2);
  CHECK(llama.spec.head_dim == 32);
  CHECK(llama.spec.layers[0].down == DType::kQ8_0);
  CHECK_FALSE(llama.spec.tied_embedding);
  CHECK(llama.layers[0].q.segment == 32);

  const Model llama3 = open_gguf(kData + "llama3-rope-f16.gguf");
  CHECK(llama3.spec.rope_factors.size() == 16);
  CHECK(llama3.spec.rope_theta == 500000);
  CHECK(llama3.spec.tied_embedding);
  CHECK(llama3.lm_head.rows == llama3.embedding.rows);

  const Model qwen2 = open_gguf(kData + "qwen2-f16.gguf");
  CHECK(qwen2.spec.architecture == Architecture::kQwen2);
  CHECK(qwen2.layers[1].q_bias.size() == 128);
  CHECK(qwen2.layers[1].k_bias.size() == 64);

  const Model qwen3 = open_gguf(kData + "qwen3-q8_0.gguf");
  CHECK(qwen3.spec.architecture == Architecture::kQwen3);
  CHECK(qwen3.spec.head_dim == 64);  // with hidden 128 and 4 heads
  CHECK(qwen3.layers[0].q_norm.size() == 64);
  CHECK(qwen3.layers[0].q.columns == 256);
}

TEST_CASE("released pages of a file read as before") {
  const Model model = open_gguf(kData + "llama-f16.gguf");
  const MatrixSource& matrix = model.layers[0].gate;
  const int64_t bytes = matrix.columns * row_bytes(matrix.dtype, matrix.k);
  const std::vector<std::byte> before(matrix.rows, matrix.rows + bytes);
  model.storage->release(matrix.rows, bytes);
  CHECK(std::equal(before.begin(), before.end(), matrix.rows));
}

TEST_CASE("metadata and tensors of a written header read back") {
  const std::string file = small_file([](GgufHeader& header) {
    header.add_text("text", "a");
    header.add_u32("u32", 7);
    header.add_f32("f32", 0.5);
    header.add_flag("flag", true);
    header.add_texts("texts", std::vector<std::string>{"a", "bc"});
    header.add_f32s("f32s", std::vector<float>{1, 2});
    header.add_i32s("i32s", std::vector<int32_t>{-1});
  });
  const Gguf gguf = parse_gguf("x.gguf", std::as_bytes(std::span(file)));
  const auto value = [&gguf](const char* key) { return gguf.metadata.at(key).value; };
  CHECK(value("text") == GgufValue("a"));
  CHECK(value("u32") == GgufValue(int64_t{7}));
  CHECK(value("f32") == GgufValue(0.5));
  CHECK(value("flag") == GgufValue(true));
  CHECK(value("texts") == GgufValue(std::vector<std::string>{"a", "bc"}));
  CHECK(value("f32s") == GgufValue(std::vector<double>{1, 2}));
  CHECK(value("i32s") == GgufValue(std::vector<int64_t>{-1}));
  CHECK(gguf.tensors.at("w").dims == std::vector<int64_t>{32, 2});
  CHECK(gguf.tensors.at("w").data.size() == 256);
}

TEST_CASE("a malformed header is refused with byte, value and expectation") {
  const std::string good = small_file([](GgufHeader& header) { header.add_u32("a", 1); });
  REQUIRE(parse_error(good).empty());
  CHECK(parse_error("") ==
        "x.gguf: byte 0: magic of 4 bytes, but 0 bytes are left of the file: "
        "it is truncated or corrupt");
  CHECK(parse_error("GGML" + good.substr(4)).find("byte 0: no GGUF file") != std::string::npos);
  const auto version = [&good](const std::string& bytes) {
    return parse_error("GGUF" + bytes + good.substr(8));
  };
  CHECK(version({1, 0, 0, 0}).find("version 1, expected 2 or 3") != std::string::npos);
  CHECK(version({0, 0, 0, 3}).find("big-endian") != std::string::npos);
  CHECK(version({9, 0, 0, 0}).find("version 9, expected 2 or 3") != std::string::npos);
  // The tensor table ends the header: name length 8, name 1, dimensions 4 + 2 x 8, type 4,
  // offset 8.
  const std::string table = good.substr(good.find(std::string("\1\0\0\0\0\0\0\0w", 9)), 41);
  const auto with_table = [&](size_t at, const std::string& bytes) {
    return parse_error(replaced(good, table, std::string(table).replace(at, bytes.size(), bytes)));
  };
  CHECK(with_table(9, {5}).find("5 dimensions, expected 1 to 4") != std::string::npos);
  CHECK(with_table(13, {0}).find("with dimension 0") != std::string::npos);
  CHECK(with_table(13, std::string(7, '\xff')).find("elements") != std::string::npos);
  CHECK(with_table(29, {9}).find("type 9 (q8_1), supported are f32") != std::string::npos);
  CHECK(with_table(33, {1}).find("at offset 1, expected a multiple of 32") != std::string::npos);
  CHECK(with_table(33, {32}).find("the file holds 256 bytes of data") != std::string::npos);
}

TEST_CASE("keys and alignments that contradict are refused") {
  CHECK(parse_error(small_file([](GgufHeader& header) {
          header.add_u32("a", 1);
          header.add_u32("a", 2);
        })).find("key 'a' a second time") != std::string::npos);
  CHECK(parse_error(small_file([](GgufHeader& header) {
          header.add_u32("general.alignment", 48);
        })).find("general.alignment 48, expected a power of 2") != std::string::npos);
  GgufHeader twice;
  for (int i = 0; i < 2; ++i) twice.add_tensor("w", std::vector<int64_t>{8}, DType::kF32, 32);
  CHECK(parse_error(twice.bytes() + std::string(64, 'x')).find("tensor 'w' a second time") !=
        std::string::npos);
}

TEST_CASE("a token id that only its usual value names must be a token") {
  // Two rows and two tokens; the usual end of text is token 2.
  GgufHeader header;
  header.add_text("tokenizer.ggml.model", "llama");
  header.add_texts("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  const std::string bytes = header.bytes();
  const Gguf gguf = parse_gguf("x", std::as_bytes(std::span(bytes)));
  CHECK_THROWS_WITH(read_vocabulary(gguf, 2), doctest::Contains("tokenizer.ggml.eos_token_id"));
}

TEST_CASE("a BPE vocabulary is read with its merges, and no id is presumed") {
  GgufHeader header;
  header.add_text("tokenizer.ggml.model", "gpt2");
  header.add_texts("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  header.add_texts("tokenizer.ggml.merges", std::vector<std::string>{"a b", "b a"});
  const auto read = [](const std::string& bytes) {
    return *read_vocabulary(parse_gguf("x", std::as_bytes(std::span(bytes))), 3);
  };
  const Vocabulary plain = read(header.bytes());
  CHECK(plain.merges == std::vector<std::string>{"a b", "b a"});
  CHECK(plain.pre == "default");
  CHECK(std::array{plain.bos, plain.eos, plain.unknown, plain.eot} == std::array{-1, -1, -1, -1});
  CHECK_FALSE(plain.add_bos.has_value());
  CHECK_FALSE(plain.add_space_prefix);
  header.add_text("tokenizer.ggml.pre", "qwen2");
  header.add_u32("tokenizer.ggml.bos_token_id", 1);
  header.add_u32("tokenizer.ggml.eot_token_id", 2);
  header.add_flag("tokenizer.ggml.add_bos_token", false);
  const Vocabulary full = read(header.bytes());
  CHECK(full.pre == "qwen2");
  CHECK(full.bos == 1);
  CHECK(full.eot == 2);
  CHECK(full.add_bos == false);
  header.add_u32("tokenizer.ggml.eos_token_id", 3);
  CHECK_THROWS_WITH(read(header.bytes()), doctest::Contains("tokenizer.ggml.eos_token_id is 3"));
}

TEST_CASE("a model that we would compute wrongly is refused by name") {
  const TemporaryFolder folder;
  const auto path = folder / "x.gguf";
  const std::string llama = read_text(kData + "llama-q8_0.gguf");
  const auto message = [&](const std::string& from, const std::string& to) {
    write_bytes(path, replaced(llama, from, to));
    return error_of(path);
  };
  const std::string key("general.architecture\10\0\0\0\5\0\0\0\0\0\0\0", 32);  // text of 5 bytes
  CHECK(message(key + "llama", key + "gemma")
            .find("general.architecture is 'gemma', supported are llama, qwen2, qwen3") !=
        std::string::npos);
  CHECK(message("blk.0.ffn_gate.weight", "blk.0.ffn_gate.weighs")
            .find("'blk.0.ffn_gate.weighs' is none of a dense llama") != std::string::npos);
  CHECK(message("llama.attention.head_count_kv", "llama.attention.head_count_xy")
            .find("tensor 'blk.0.attn_k.weight' is [256, 64], expected [256, 256]") !=
        std::string::npos);
  CHECK(message("llama.block_count", "llama.block_kount")
            .find("key 'llama.block_count' is missing") != std::string::npos);
}

TEST_CASE("a file cut short anywhere is refused, never read beyond its end") {
  const TemporaryFolder folder;
  const auto path = folder / "x.gguf";
  const std::string whole = read_text(kData + "qwen3-q8_0.gguf");
  write_bytes(path, whole);
  REQUIRE(error_of(path).empty());
  // Every length of the first sections, then a prime stride through the tables and the data. The
  // last tensor may end less than an alignment before the file does.
  for (size_t size = 0; size + 32 < whole.size(); size += size < 600 ? 1 : 1009) {
    CAPTURE(size);
    std::filesystem::remove(path);
    write_bytes(path, whole.substr(0, size));
    const std::string message = error_of(path);
    CHECK(message.starts_with(path.string()));
  }
}

TEST_CASE("a file with wrong bytes in its header is refused or read, and never crashes") {
  const TemporaryFolder folder;
  const auto path = folder / "x.gguf";
  const std::string whole = read_text(kData + "qwen3-q8_0.gguf");
  write_bytes(path, whole);
  const std::string_view table = parse_gguf("x", std::as_bytes(std::span(whole))).tensor_table;
  const auto table_begin = static_cast<size_t>(table.data() - whole.data());
  const size_t vocabulary_begin = whole.find("tokenizer.ggml.tokens");
  const std::array<std::pair<size_t, size_t>, 3> sections{
      {{0, vocabulary_begin},
       {vocabulary_begin, table_begin},
       {table_begin, table.size() + table_begin}}};
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto put = [&file](size_t at, const std::string& bytes) {
    file.seekp(static_cast<std::streamoff>(at));
    file << bytes << std::flush;
  };
  std::mt19937_64 random(20241);
  for (size_t round = 0; round < 6000; ++round) {
    const auto [begin, end] = sections[round % sections.size()];
    const size_t place = begin + random() % (end - begin);
    std::string bytes(1 + random() % 8, '\0');
    const bool extreme = random() % 3 == 0;  // lengths of all zeros or all ones
    for (char& byte : bytes) byte = static_cast<char>(extreme ? -(round & 1) : random());
    put(place, bytes);
    CAPTURE(round);
    CHECK(survives(path));
    put(place, whole.substr(place, bytes.size()));
  }
  CHECK(error_of(path).empty());
}

}  // namespace tandem
