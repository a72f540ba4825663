// Compiled instead of tokenizer.cpp where the sentencepiece library is absent.
#include "runtime/tokenizer.h"

namespace tandem {

std::unique_ptr<Tokenizer> Tokenizer::open(const Vocabulary&, std::string& why) {
  why = "this build has no sentencepiece library, so models take token ids only";
  return nullptr;
}

}  // namespace tandem
