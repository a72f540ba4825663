// The words of a text, each of which BPE encodes by itself. What a word is differs between models.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

class PreTokenizer {
 public:
  /// By its name in tokenizer.ggml.pre. Null where the name is not known, or the build lacks PCRE2
  /// (`why` then says so in one sentence).
  static std::unique_ptr<PreTokenizer> open(std::string_view name, std::string& why);
  virtual ~PreTokenizer() = default;

  /// Words of `text` from its begin to its end, none of them empty. A byte that is no UTF-8 counts
  /// as a character that is neither letter, number, punctuation nor space, as in llama.cpp, which
  /// replaces it by U+FFFD; here it stays as it is. Time and memory are linear in the text.
  virtual std::vector<std::string_view> split(std::string_view text) const = 0;

  bool ignore_merges = false;  ///< a word that is a token is that token, whatever the merges make
  bool add_bos = false;        ///< where tokenizer.ggml.add_bos_token is absent
};

}  // namespace tandem
