// Tokens that a text names outright, such as <|im_start|>: found before the rest is encoded.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/model.h"

namespace tandem {

/// A token that text names, or (token -1) the text up to the next one.
struct TextRun {
  std::string_view text;
  int32_t token = -1;
};

class SpecialTokens {
 public:
  /// The tokens of one of `types` (token_type); of tokens with one name the first. Names of more
  /// than 256 bytes are left out: so many bytes at most are compared at each byte of a text.
  SpecialTokens(const Vocabulary& vocabulary, const std::vector<int32_t>& types);

  /// The runs of `text` from its begin to its end, none of them empty. Where names begin at one
  /// byte the longest counts; where they overlap, the one that begins first.
  std::vector<TextRun> split(std::string_view text) const;

 private:
  struct Special {
    std::string name;
    int32_t token = -1;
  };
  const Special* longest(std::string_view text) const;

  std::vector<Special> specials_;        ///< by name, no name twice
  std::array<bool, 256> is_first_byte_;  ///< of some name
};

}  // namespace tandem
