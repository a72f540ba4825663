#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "runtime/byte_pairs.h"
#include "runtime/pre_tokenizer.h"
#include "runtime/special_tokens.h"
#include "runtime/tokenizer.h"

namespace tandem {
namespace {

/// Names of tokens that end a text whatever eos is: instruction-tuned models end a turn with
/// another token than base models end a text (llama.cpp, src/llama-vocab.cpp, special_eog_ids:
/// those of Llama 3 and Qwen).
constexpr std::array<std::string_view, 8> kEnds{"<|eot_id|>",   "<|eom_id|>",    "<|end_of_text|>",
                                                "<|im_end|>",   "<|endoftext|>", "<|fim_pad|>",
                                                "<|file_sep|>", "<|repo_name|>"};

bool ends_text(const Vocabulary& vocabulary, size_t token) {
  const auto id = static_cast<int32_t>(token);
  return id == vocabulary.eos || id == vocabulary.eot ||
         std::find(kEnds.begin(), kEnds.end(), vocabulary.tokens[token]) != kEnds.end();
}

/// Whether a token adds nothing to a text.
bool is_silent(const Vocabulary& vocabulary, size_t token) {
  if (vocabulary.types.empty()) return false;
  const int32_t type = vocabulary.types[token];
  return type == token_type::kControl || type == token_type::kUnknown ||
         type == token_type::kUnused;
}

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(const Vocabulary& vocabulary, std::unique_ptr<PreTokenizer> pre_tokenizer)
      : pre_tokenizer_(std::move(pre_tokenizer)),
        pairs_(vocabulary),
        specials_(vocabulary,
                  {token_type::kControl, token_type::kUnknown, token_type::kUserDefined}),
        bos_(vocabulary.add_bos.value_or(pre_tokenizer_->add_bos) ? vocabulary.bos : -1),
        eos_(vocabulary.add_eos ? vocabulary.eos : -1) {
    for (size_t token = 0; token < vocabulary.tokens.size(); ++token) {
      ends_.push_back(ends_text(vocabulary, token));
      silent_.push_back(is_silent(vocabulary, token));
    }
  }

  const BytePairs& pairs() const { return pairs_; }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    if (bos_ >= 0) ids.push_back(bos_);
    for (const TextRun& run : specials_.split(text)) {
      if (run.token >= 0) {
        ids.push_back(run.token);
      } else {
        for (const std::string_view word : pre_tokenizer_->split(run.text)) append(word, ids);
      }
    }
    if (eos_ >= 0) ids.push_back(eos_);
    return ids;
  }

  std::string piece(int32_t token) const override {
    if (!is_token(token) || silent_[static_cast<size_t>(token)]) return {};
    return std::string(pairs_.bytes(token));
  }

  bool is_end(int32_t token) const override {
    return is_token(token) && ends_[static_cast<size_t>(token)];
  }

 private:
  bool is_token(int32_t token) const { return token >= 0 && token < std::ssize(ends_); }

  void append(std::string_view word, std::vector<int32_t>& ids) const {
    const int32_t whole = pre_tokenizer_->ignore_merges ? pairs_.token(word) : -1;
    if (whole >= 0)
      ids.push_back(whole);
    else
      pairs_.append(word, ids);
  }

  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  BytePairs pairs_;
  SpecialTokens specials_;
  int32_t bos_, eos_;  ///< added to every text; -1 = none
  std::vector<bool> ends_, silent_;
};

bool is_token(const Vocabulary& vocabulary, int32_t token) {
  return token >= 0 && token < std::ssize(vocabulary.tokens);
}

/// Why a vocabulary is none that text can be encoded with, or nothing.
std::string objection(const Vocabulary& vocabulary, const PreTokenizer& pre_tokenizer) {
  if (vocabulary.merges.empty()) return "the vocabulary has no tokenizer.ggml.merges";
  if (vocabulary.add_bos.value_or(pre_tokenizer.add_bos) && !is_token(vocabulary, vocabulary.bos))
    return "a text of this vocabulary begins with BOS, but it has no tokenizer.ggml.bos_token_id";
  if (vocabulary.add_eos && !is_token(vocabulary, vocabulary.eos))
    return "a text of this vocabulary ends with EOS, but it has no tokenizer.ggml.eos_token_id";
  return {};
}

}  // namespace

std::unique_ptr<Tokenizer> open_bpe_tokenizer(const Vocabulary& vocabulary, std::string& why) {
  std::unique_ptr<PreTokenizer> pre_tokenizer = PreTokenizer::open(vocabulary.pre, why);
  if (!pre_tokenizer) return nullptr;
  why = objection(vocabulary, *pre_tokenizer);
  if (!why.empty()) return nullptr;
  auto tokenizer = std::make_unique<BpeTokenizer>(vocabulary, std::move(pre_tokenizer));
  if (const std::optional<int> byte = tokenizer->pairs().missing_byte()) {
    why = fmt::format("the vocabulary has no token for the byte 0x{:02x}", *byte);
    return nullptr;
  }
  return tokenizer;
}

}  // namespace tandem
