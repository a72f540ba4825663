// The bundled llama model with a byte-level BPE vocabulary instead of its own.
#pragma once

#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "runtime/gguf.h"
#include "runtime/gguf_writer.h"
#include "tests/runtime/bpe_vocabulary.h"
#include "tests/tuner/this_machine.h"

namespace tandem {

/// 256 "he", 257 "ll", 258 "llo", 259 " w"; the other tokens of the model's 512 are unused.
inline Vocabulary small_bpe_vocabulary(const std::string& pre) {
  Vocabulary vocabulary = bpe_vocabulary({"h e", "l l", "ll o", "\xc4\xa0 w"});
  vocabulary.pre = pre;
  for (size_t token = vocabulary.tokens.size(); token < 512; ++token)
    vocabulary.tokens.push_back("[PAD" + std::to_string(token) + "]");
  vocabulary.types.resize(vocabulary.tokens.size(), token_type::kUnused);
  return vocabulary;
}

/// Writes llama-q8_0.gguf with that vocabulary.
inline void write_bpe_model(const std::filesystem::path& path, const std::string& pre) {
  const std::string bytes = read_text(kTestData + "llama-q8_0.gguf");
  const Gguf gguf = parse_gguf("llama-q8_0.gguf", std::as_bytes(std::span(bytes)));
  GgufHeader header;
  for (const auto& [key, entry] : gguf.metadata) {
    if (key.starts_with("tokenizer.")) continue;
    if (const auto* text = std::get_if<std::string>(&entry.value)) header.add_text(key, *text);
    if (const auto* number = std::get_if<int64_t>(&entry.value)) header.add_u32(key, *number);
    if (const auto* real = std::get_if<double>(&entry.value)) header.add_f32(key, *real);
  }
  const Vocabulary vocabulary = small_bpe_vocabulary(pre);
  header.add_text("tokenizer.ggml.model", vocabulary.model);
  header.add_text("tokenizer.ggml.pre", vocabulary.pre);
  header.add_texts("tokenizer.ggml.tokens", vocabulary.tokens);
  header.add_i32s("tokenizer.ggml.token_type", vocabulary.types);
  header.add_texts("tokenizer.ggml.merges", vocabulary.merges);
  std::string data;
  for (const auto& [name, tensor] : gguf.tensors) {
    const auto size = static_cast<int64_t>(tensor.data.size());
    header.add_tensor(name, tensor.dims, tensor.dtype, size);
    data.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    data += GgufHeader::padding(size);
  }
  std::ofstream(path, std::ios::binary) << header.bytes() << data;
}

}  // namespace tandem
