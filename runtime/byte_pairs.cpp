#include "runtime/byte_pairs.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <queue>
#include <tuple>

namespace tandem {
namespace {

constexpr int kBytes = 256;

constexpr bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/// The byte that a character stands for in a byte-level vocabulary, -1 for none: printable Latin-1
/// characters are themselves, the other 68 bytes are U+0100 and up, in order (github.com/openai/
/// gpt-2, src/encoder.py, bytes_to_unicode). So a space is U+0120.
constexpr int kCharacters = kBytes + 68;
constexpr std::array<int16_t, kCharacters> kByteOfCharacter = [] {
  std::array<int16_t, kCharacters> bytes{};
  bytes.fill(-1);
  int next = kBytes;
  for (int byte = 0; byte < kBytes; ++byte)
    bytes[static_cast<size_t>(is_printable(byte) ? byte : next++)] = static_cast<int16_t>(byte);
  return bytes;
}();

/// The bytes that the characters of `name` stand for; nothing where one of them stands for none.
std::optional<std::string> bytes_of(std::string_view name) {
  std::string bytes;
  for (size_t at = 0; at < name.size(); ++at) {
    // All of them are below U+0800: one byte, or two in the form 110xxxxx 10xxxxxx.
    unsigned character = static_cast<uint8_t>(name[at]);
    if (character >= 0x80) {
      const unsigned second = at + 1 < name.size() ? static_cast<uint8_t>(name[++at]) : 0U;
      if (character >> 5 != 6 || second >> 6 != 2) return std::nullopt;
      character = (character & 0x1f) << 6 | (second & 0x3f);
    }
    if (character >= kCharacters || kByteOfCharacter[character] < 0) return std::nullopt;
    bytes += static_cast<char>(kByteOfCharacter[character]);
  }
  return bytes;
}

/// Whether a token's name is text, not bytes in disguise.
bool is_text(const Vocabulary& vocabulary, size_t token) {
  if (vocabulary.types.empty()) return false;
  const int32_t type = vocabulary.types[token];
  return type == token_type::kControl || type == token_type::kUnknown ||
         type == token_type::kUserDefined;
}

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

/// A token of a word while it is merged: a list, of which merged ones drop out (token -1).
struct Symbol {
  int32_t token = -1;
  int64_t previous = -1, next = -1;  ///< -1 = none
};

/// A pair that could be merged when it was queued: symbol `left` and the one after it.
struct Candidate {
  int32_t rank = 0, merged = 0;
  int64_t left = 0;
  int32_t left_token = 0, right_token = 0;
};

struct IsLater {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return std::tie(a.rank, a.left) > std::tie(b.rank, b.left);
  }
};

/// Whether both symbols are still what they were when the candidate was queued.
bool is_current(const Candidate& candidate, const std::vector<Symbol>& symbols) {
  const Symbol& left = symbols[static_cast<size_t>(candidate.left)];
  return left.token == candidate.left_token && left.next >= 0 &&
         symbols[static_cast<size_t>(left.next)].token == candidate.right_token;
}

void merge(const Candidate& candidate, std::vector<Symbol>& symbols) {
  Symbol& left = symbols[static_cast<size_t>(candidate.left)];
  Symbol& right = symbols[static_cast<size_t>(left.next)];
  left.token = candidate.merged;
  left.next = right.next;
  right.token = -1;
  if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = candidate.left;
}

}  // namespace

BytePairs::BytePairs(const Vocabulary& vocabulary) : byte_tokens_(kBytes, -1) {
  bytes_.reserve(vocabulary.tokens.size());  // so that no string moves from under its key
  for (size_t token = 0; token < vocabulary.tokens.size(); ++token) {
    const std::string& name = vocabulary.tokens[token];
    std::optional<std::string> bytes;
    if (!is_text(vocabulary, token)) bytes = bytes_of(name);
    bytes_.push_back(bytes.value_or(name));
    if (bytes && !bytes->empty()) ids_.try_emplace(bytes_.back(), static_cast<int32_t>(token));
  }
  for (int byte = 0; byte < kBytes; ++byte) {
    const char text = static_cast<char>(byte);
    byte_tokens_[static_cast<size_t>(byte)] = token({&text, 1});
  }
  read_merges(vocabulary);
}

void BytePairs::read_merges(const Vocabulary& vocabulary) {
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string_view line = vocabulary.merges[rank];
    const size_t space = line.find(' ', 1);  // a space in a token is U+0120
    if (space == std::string_view::npos) continue;
    const std::optional<std::string> left_bytes = bytes_of(line.substr(0, space));
    const std::optional<std::string> right_bytes = bytes_of(line.substr(space + 1));
    if (!left_bytes || !right_bytes) continue;
    const int32_t left = token(*left_bytes), right = token(*right_bytes);
    const int32_t merged = token(*left_bytes + *right_bytes);
    if (left < 0 || right < 0 || merged < 0) continue;
    merges_.try_emplace(pair_key(left, right), Merge{static_cast<int32_t>(rank), merged});
  }
}

std::optional<int> BytePairs::missing_byte() const {
  const auto missing = std::find(byte_tokens_.begin(), byte_tokens_.end(), -1);
  if (missing == byte_tokens_.end()) return std::nullopt;
  return static_cast<int>(missing - byte_tokens_.begin());
}

std::string_view BytePairs::bytes(int32_t token) const {
  if (token < 0 || token >= std::ssize(bytes_)) return {};
  return bytes_[static_cast<size_t>(token)];
}

int32_t BytePairs::token(std::string_view bytes) const {
  const auto found = ids_.find(bytes);
  return found == ids_.end() ? -1 : found->second;
}

void BytePairs::append(std::string_view word, std::vector<int32_t>& tokens) const {
  assert(!missing_byte());
  const int64_t size = std::ssize(word);
  std::vector<Symbol> symbols(word.size());
  for (int64_t i = 0; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(word[static_cast<size_t>(i)]);
    symbols[static_cast<size_t>(i)] = {byte_tokens_[byte], i - 1, i + 1 < size ? i + 1 : -1};
  }
  std::priority_queue<Candidate, std::vector<Candidate>, IsLater> queue;
  const auto consider = [&](int64_t at) {
    if (at < 0 || symbols[static_cast<size_t>(at)].next < 0) return;
    const Symbol& left = symbols[static_cast<size_t>(at)];
    const Symbol& right = symbols[static_cast<size_t>(left.next)];
    const auto found = merges_.find(pair_key(left.token, right.token));
    if (found != merges_.end())
      queue.push({.rank = found->second.rank,
                  .merged = found->second.token,
                  .left = at,
                  .left_token = left.token,
                  .right_token = right.token});
  };
  for (int64_t i = 0; i < size; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    if (!is_current(candidate, symbols)) continue;
    merge(candidate, symbols);
    consider(symbols[static_cast<size_t>(candidate.left)].previous);
    consider(candidate.left);
  }
  for (int64_t at = size > 0 ? 0 : -1; at >= 0; at = symbols[static_cast<size_t>(at)].next)
    tokens.push_back(symbols[static_cast<size_t>(at)].token);
}

}  // namespace tandem
