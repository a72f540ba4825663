// Compiled instead of sentencepiece_tokenizer.cpp where the sentencepiece library is absent.
#include "runtime/tokenizer.h"

namespace tandem {

std::unique_ptr<Tokenizer> open_sentencepiece_tokenizer(const Vocabulary&, std::string& why) {
  why =
      "this build has no sentencepiece library, so models with such a vocabulary take token ids "
      "only";
  return nullptr;
}

}  // namespace tandem
