// A byte-level BPE vocabulary in bytes: what its tokens stand for, and which pairs of them merge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/model.h"

namespace tandem {

class BytePairs {
 public:
  /// `types` must be none, or one for each token. Nothing else in the vocabulary is trusted: of
  /// tokens with the same bytes the first is encoded, and a merge that does not name two tokens
  /// whose bytes together are a third's is left out, for it could never yield a token.
  explicit BytePairs(const Vocabulary& vocabulary);
  BytePairs(const BytePairs&) = delete;
  BytePairs& operator=(const BytePairs&) = delete;

  /// The first byte that is no token by itself. `append` needs all of them.
  std::optional<int> missing_byte() const;
  /// What a token stands for; its name where that is not written in the characters that stand for
  /// bytes, and for control, unknown and user-defined tokens. Nothing for an id that is no token.
  std::string_view bytes(int32_t token) const;
  /// The token of these bytes, or -1. Tokens whose bytes are their name are not found.
  int32_t token(std::string_view bytes) const;

  /// Appends the tokens of `word`: beginning with one token for each byte, the adjacent pair whose
  /// merge is listed first is merged, the leftmost such pair first, until none is left (Sennrich et
  /// al. 2016, arxiv.org/abs/1508.07909, algorithm 1). O(n log n) for n bytes.
  void append(std::string_view word, std::vector<int32_t>& tokens) const;

 private:
  struct Merge {
    int32_t rank = 0;  ///< place in the list of merges
    int32_t token = 0;
  };
  void read_merges(const Vocabulary& vocabulary);

  std::vector<std::string> bytes_;                     ///< by token
  std::unordered_map<std::string_view, int32_t> ids_;  ///< keys lie in bytes_
  std::vector<int32_t> byte_tokens_;                   ///< by byte, -1 = none
  std::unordered_map<uint64_t, Merge> merges_;         ///< left token << 32 | right token
};

}  // namespace tandem
