#include "runtime/utf8.h"

#include <algorithm>
#include <utility>

namespace tandem {
namespace {

/// Bytes of a character by its first one, or kNoCharacter.
int64_t expected_bytes(uint8_t first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  if (first >= 0xf0 && first <= 0xf4) return 4;
  return kNoCharacter;
}

/// Where a character begins that the end of `text` cuts, or its size.
size_t cut_begin(std::string_view text) {
  for (size_t at = text.size() - std::min<size_t>(text.size(), 3); at < text.size(); ++at)
    if (character_bytes(text.substr(at)) == kCutCharacter) return at;
  return text.size();
}

}  // namespace

int64_t character_bytes(std::string_view text) {
  const auto first = static_cast<uint8_t>(text.front());
  const int64_t bytes = expected_bytes(first);
  // What the second byte may be depends on the first: nothing overlong, no surrogate, U+10FFFF last
  int low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  int high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  for (int64_t i = 1; i < bytes; ++i) {
    if (i == std::ssize(text)) return kCutCharacter;
    const auto byte = static_cast<uint8_t>(text[static_cast<size_t>(i)]);
    if (byte < low || byte > high) return kNoCharacter;
    low = 0x80;
    high = 0xbf;
  }
  return bytes;
}

std::string Utf8Stream::add(std::string_view bytes) {
  std::string whole = std::move(held_);
  whole += bytes;
  held_ = whole.substr(cut_begin(whole));
  whole.resize(whole.size() - held_.size());
  return whole;
}

std::string Utf8Stream::finish() { return std::exchange(held_, {}); }

}  // namespace tandem
