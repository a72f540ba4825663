// Text to token ids and back, for SentencePiece and byte-level BPE vocabularies.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model.h"

namespace tandem {

class Tokenizer {
 public:
  /// Null where the vocabulary's kind, or the build, has no tokenizer (`why` then says so in one
  /// sentence).
  static std::unique_ptr<Tokenizer> open(const Vocabulary& vocabulary, std::string& why);
  virtual ~Tokenizer() = default;

  /// Ids of `text`, with BOS in front where the vocabulary asks for it. The name of a control token
  /// in the text, such as <|im_start|>, is that token, as in llama.cpp's --prompt; so a text that
  /// begins with BOS's name has two of them. Nothing is normalised, and bytes that are no UTF-8 are
  /// encoded as they are.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  /// Bytes that one token adds to a running text (a byte token adds its byte, control tokens
  /// nothing). They may end within a character: Utf8Stream (runtime/utf8.h) puts them together.
  virtual std::string piece(int32_t token) const = 0;
  virtual bool is_end(int32_t token) const = 0;
};

/// What Tokenizer::open chooses from, by Vocabulary::model: "llama" and "gpt2".
std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(const Vocabulary& vocabulary,
                                                        std::string& why);
std::unique_ptr<Tokenizer> open_bpe_tokenizer(const Vocabulary& vocabulary, std::string& why);

}  // namespace tandem
