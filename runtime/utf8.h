// UTF-8 that comes from outside: not always valid, and in pieces that end anywhere.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {

constexpr int64_t kNoCharacter = 0;    ///< `text` begins with a byte that belongs to no character
constexpr int64_t kCutCharacter = -1;  ///< `text` ends within its first character

/// Bytes of the character that `text` (not empty) begins with, 1 to 4, or one of the above.
/// Well-formed is what The Unicode Standard's table 3-7 says: no surrogates, nothing overlong.
int64_t character_bytes(std::string_view text);

/// Gives text that comes in pieces back in whole characters, each as soon as it is complete.
/// No byte is lost or changed; those that are no UTF-8 pass at once.
class Utf8Stream {
 public:
  /// What `bytes` complete, and all after that but for the beginning of one character at the end.
  std::string add(std::string_view bytes);
  /// What was held back, at the end of all text.
  std::string finish();

 private:
  std::string held_;  ///< at most 3 bytes
};

}  // namespace tandem
