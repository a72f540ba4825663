#include "runtime/tokenizer.h"

#include <fmt/format.h>

#include "runtime/gguf.h"

namespace tandem {

std::unique_ptr<Tokenizer> Tokenizer::open(const Vocabulary& vocabulary, std::string& why) {
  why.clear();
  if (!vocabulary.types.empty() && vocabulary.types.size() != vocabulary.tokens.size()) {
    why = "the vocabulary has not one type for each token";
    return nullptr;
  }
  if (vocabulary.model == "llama") return open_sentencepiece_tokenizer(vocabulary, why);
  if (vocabulary.model == "gpt2") return open_bpe_tokenizer(vocabulary, why);
  why = fmt::format(
      "the vocabulary is of kind '{}', supported are SentencePiece ('llama') and BPE ('gpt2')",
      printable(vocabulary.model));
  return nullptr;
}

}  // namespace tandem
