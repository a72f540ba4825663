// Text to token ids and back, for SentencePiece vocabularies.
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

  /// Ids of `text`, with BOS in front where the vocabulary asks for it.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  /// Bytes that one token adds to a running text (a byte token adds its byte, control tokens
  /// nothing).
  virtual std::string piece(int32_t token) const = 0;
  virtual bool is_end(int32_t token) const = 0;
};

}  // namespace tandem
