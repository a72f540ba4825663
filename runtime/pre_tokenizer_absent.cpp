// Compiled instead of pre_tokenizer.cpp where the PCRE2 library is absent.
#include "runtime/pre_tokenizer.h"

namespace tandem {

std::unique_ptr<PreTokenizer> PreTokenizer::open(std::string_view, std::string& why) {
  why = "this build has no PCRE2 library, so models with a BPE vocabulary take token ids only";
  return nullptr;
}

}  // namespace tandem
