#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"
#include "kernels/file.h"
#include "runtime/gguf_writer.h"
#include "runtime/model.h"
#include "runtime/synthetic_tensor.h"

namespace tandem {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;  ///< written at a time
constexpr int64_t kByteTokens = 256;
constexpr int64_t kFirstPiece = 3 + kByteTokens;  ///< after <unk>, <s>, </s> and the bytes

constexpr std::array<std::string_view, 3> kArchitectureNames{"llama", "qwen2", "qwen3"};

void add_shape(const ModelSpec& spec, std::string_view architecture, GgufHeader& header) {
  const auto key = [architecture](std::string_view name) {
    return fmt::format("{}.{}", architecture, name);
  };
  header.add_u32(key("context_length"), spec.max_context);
  header.add_u32(key("embedding_length"), spec.hidden_size);
  header.add_u32(key("block_count"), spec.num_layers);
  header.add_u32(key("feed_forward_length"), spec.intermediate_size);
  header.add_u32(key("attention.head_count"), spec.num_heads);
  header.add_u32(key("attention.head_count_kv"), spec.num_kv_heads);
  header.add_u32(key("attention.key_length"), spec.head_dim);
  header.add_u32(key("attention.value_length"), spec.head_dim);
  header.add_u32(key("rope.dimension_count"), spec.rope_dim);
  header.add_f32(key("rope.freq_base"), spec.rope_theta);
  header.add_f32(key("attention.layer_norm_rms_epsilon"), spec.norm_eps);
  header.add_u32(key("vocab_size"), spec.vocab_size);
}

/// A SentencePiece vocabulary that encodes any text byte by byte; the other pieces have names that
/// no text contains.
void add_vocabulary(int64_t vocab_size, GgufHeader& header) {
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types{2, 3, 3};  // as in Vocabulary::types
  for (int64_t byte = 0; byte < kByteTokens; ++byte)
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
  types.resize(tokens.size(), 6);
  for (int64_t token = kFirstPiece; token < vocab_size; ++token)
    tokens.push_back(fmt::format("<dummy {}>", token));
  types.resize(tokens.size(), 1);
  std::vector<float> scores(tokens.size());
  for (size_t i = kFirstPiece; i < scores.size(); ++i)
    scores[i] = -static_cast<float>(i - kFirstPiece);
  header.add_text("tokenizer.ggml.model", "llama");
  header.add_texts("tokenizer.ggml.tokens", tokens);
  header.add_f32s("tokenizer.ggml.scores", scores);
  header.add_i32s("tokenizer.ggml.token_type", types);
  header.add_u32("tokenizer.ggml.bos_token_id", 1);
  header.add_u32("tokenizer.ggml.eos_token_id", 2);
  header.add_u32("tokenizer.ggml.unknown_token_id", 0);
  header.add_flag("tokenizer.ggml.add_bos_token", true);
}

GgufHeader make_header(const ModelSpec& spec, const std::vector<SyntheticTensor>& tensors) {
  const std::string_view architecture = kArchitectureNames[static_cast<size_t>(spec.architecture)];
  GgufHeader header;
  header.add_text("general.architecture", architecture);
  header.add_text("general.name", spec.name);
  header.add_u32("general.file_type", info(main_dtype(spec)).gguf_file_type);
  header.add_u32("general.quantization_version", 2);
  add_shape(spec, architecture, header);
  add_vocabulary(spec.vocab_size, header);
  for (const SyntheticTensor& tensor : tensors) {
    std::vector<int64_t> dims{tensor.shape.k};
    if (tensor.shape.kind == TensorKind::kMatrix) dims.push_back(tensor.shape.columns);
    header.add_tensor(tensor.shape.name, dims, tensor.shape.dtype, tensor.bytes);
  }
  return header;
}

/// Writes a tensor in pieces of whole rows; `written` is told the bytes of each.
void write_tensor(const SyntheticTensor& tensor, const ModelSpec& spec, AtomicFile& file,
                  const std::function<void(int64_t)>& written) {
  const int64_t row = row_bytes(tensor.shape.dtype, tensor.shape.k);
  const int64_t rows = std::max<int64_t>(1, kPieceBytes / row);
  std::string piece;
  for (int64_t begin = 0; begin < tensor.shape.columns; begin += rows) {
    const Range range{begin, std::min(begin + rows, tensor.shape.columns)};
    piece.resize(static_cast<size_t>(range.size() * row));
    fill_tensor(tensor, spec, range, reinterpret_cast<std::byte*>(piece.data()));
    file.write(piece);
    written(range.size() * row);
  }
  file.write(GgufHeader::padding(tensor.bytes));
}

}  // namespace

void write_synthetic_gguf(const ModelSpec& spec, uint64_t seed, const std::string& path,
                          const std::function<void(int64_t, int64_t)>& progress) {
  if (spec.vocab_size < kFirstPiece)
    throw Error(
        fmt::format("{}: vocab_size {} of {}, expected at least {} for a vocabulary of bytes", path,
                    spec.vocab_size, spec.name, kFirstPiece));
  const std::vector<SyntheticTensor> tensors = synthetic_tensors(spec, seed);
  int64_t total = 0, done = 0;
  for (const SyntheticTensor& tensor : tensors) total += tensor.bytes;
  AtomicFile file(path);
  file.write(make_header(spec, tensors).bytes());
  for (const SyntheticTensor& tensor : tensors)
    write_tensor(tensor, spec, file, [&](int64_t bytes) {
      done += bytes;
      if (progress) progress(done, total);
    });
  file.commit();
}

}  // namespace tandem
