// Byte-level BPE vocabularies for tests, made from a list of merges.
#pragma once

#include <string>
#include <vector>

#include "runtime/model.h"

namespace tandem {

/// The character that stands for a byte (openai/gpt-2, src/encoder.py): printable Latin-1 itself,
/// the others U+0100 and up in the order of the bytes.
inline std::string byte_name(int byte) {
  const auto printable = [](int b) { return (b > 32 && b < 127) || (b > 160 && b != 173); };
  int character = byte;
  if (!printable(byte)) {
    character = 256;
    for (int b = 0; b < byte; ++b) character += printable(b) ? 0 : 1;
  }
  if (character < 128) return {static_cast<char>(character)};
  return {static_cast<char>(0xc0 | character >> 6), static_cast<char>(0x80 | (character & 0x3f))};
}

/// Bytes as a vocabulary writes them.
inline std::string byte_names(const std::string& bytes) {
  std::string names;
  for (const char byte : bytes) names += byte_name(static_cast<unsigned char>(byte));
  return names;
}

/// Token b is byte b, token 256 + i what merge i yields ("a b" yields "ab"), then `controls`.
inline Vocabulary bpe_vocabulary(const std::vector<std::string>& merges,
                                 const std::vector<std::string>& controls = {}) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.bos = vocabulary.eos = vocabulary.unknown = -1;
  vocabulary.merges = merges;
  for (int byte = 0; byte < 256; ++byte) vocabulary.tokens.push_back(byte_name(byte));
  for (std::string merge : merges) {
    merge.erase(merge.find(' ', 1), 1);
    vocabulary.tokens.push_back(merge);
  }
  vocabulary.types.resize(vocabulary.tokens.size(), token_type::kNormal);
  vocabulary.tokens.insert(vocabulary.tokens.end(), controls.begin(), controls.end());
  vocabulary.types.resize(vocabulary.tokens.size(), token_type::kControl);
  return vocabulary;
}

}  // namespace tandem
