#include "runtime/gguf_vocabulary.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf_metadata.h"

namespace tandem {
namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";

void check_size(const GgufMetadata& metadata, std::string_view key, size_t found,
                int64_t vocab_size) {
  if (static_cast<int64_t>(found) != vocab_size)
    metadata.fail(key, fmt::format("has {} entries, expected {} as token_embd.weight has rows",
                                   found, vocab_size));
}

/// The id that the file names, else the usual one; -1 where there is none either.
int32_t special_token(const GgufMetadata& metadata, std::string_view name, int32_t usual,
                      int64_t vocab_size) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const int64_t id = metadata.integer_in(key, 0, vocab_size - 1, usual);
  if (id >= vocab_size)
    metadata.fail(key,
                  fmt::format("is absent, and its usual {} is none of {} tokens", id, vocab_size));
  return static_cast<int32_t>(id);
}

}  // namespace

std::optional<Vocabulary> read_vocabulary(const Gguf& gguf, int64_t vocab_size) {
  const GgufMetadata metadata(gguf);
  const std::optional<std::string> kind = metadata.text("tokenizer.ggml.model");
  const std::vector<std::string>* tokens = metadata.texts(kTokens);
  if (!kind || !tokens) return std::nullopt;

  Vocabulary vocabulary;
  vocabulary.model = *kind;
  vocabulary.tokens = *tokens;
  check_size(metadata, kTokens, tokens->size(), vocab_size);
  if (const std::vector<double>* scores = metadata.reals(kScores)) {
    check_size(metadata, kScores, scores->size(), vocab_size);
    vocabulary.scores.assign(scores->begin(), scores->end());
  }
  if (const std::vector<int64_t>* types = metadata.integers(kTypes)) {
    check_size(metadata, kTypes, types->size(), vocab_size);
    vocabulary.types.assign(types->begin(), types->end());
  }
  if (const std::vector<std::string>* merges = metadata.texts("tokenizer.ggml.merges"))
    vocabulary.merges = *merges;
  vocabulary.pre = metadata.text("tokenizer.ggml.pre").value_or(vocabulary.pre);
  const bool sentencepiece = *kind == "llama";
  vocabulary.bos = special_token(metadata, "bos", sentencepiece ? 1 : -1, vocab_size);
  vocabulary.eos = special_token(metadata, "eos", sentencepiece ? 2 : -1, vocab_size);
  vocabulary.unknown = special_token(metadata, "unknown", sentencepiece ? 0 : -1, vocab_size);
  vocabulary.eot = special_token(metadata, "eot", -1, vocab_size);
  vocabulary.add_bos = metadata.flag("tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = metadata.flag("tokenizer.ggml.add_eos_token").value_or(false);
  vocabulary.add_space_prefix =
      metadata.flag("tokenizer.ggml.add_space_prefix").value_or(sentencepiece);
  return vocabulary;
}

}  // namespace tandem
