#include "runtime/special_tokens.h"

#include <algorithm>

namespace tandem {
namespace {

constexpr size_t kLongestName = 256;

uint8_t byte_at(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

}  // namespace

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, const std::vector<int32_t>& types)
    : is_first_byte_{} {
  for (size_t token = 0; token < vocabulary.types.size(); ++token) {
    const std::string& name = vocabulary.tokens[token];
    if (name.empty() || name.size() > kLongestName) continue;
    if (std::find(types.begin(), types.end(), vocabulary.types[token]) == types.end()) continue;
    specials_.push_back({name, static_cast<int32_t>(token)});
    is_first_byte_[byte_at(name, 0)] = true;
  }
  std::stable_sort(specials_.begin(), specials_.end(),
                   [](const Special& a, const Special& b) { return a.name < b.name; });
  const auto same = [](const Special& a, const Special& b) { return a.name == b.name; };
  specials_.erase(std::unique(specials_.begin(), specials_.end(), same), specials_.end());
}

/// The longest name that `text` begins with, or null.
const SpecialTokens::Special* SpecialTokens::longest(std::string_view text) const {
  const Special* found = nullptr;
  auto begin = specials_.begin(), end = specials_.end();
  for (size_t i = 0; i < text.size(); ++i) {
    // In [begin, end) are the names that go on after the first i bytes, which are those of `text`.
    const uint8_t byte = byte_at(text, i);
    begin = std::lower_bound(begin, end, byte, [i](const Special& special, uint8_t value) {
      return byte_at(special.name, i) < value;
    });
    end = std::upper_bound(begin, end, byte, [i](uint8_t value, const Special& special) {
      return value < byte_at(special.name, i);
    });
    if (begin == end) break;
    if (begin->name.size() == i + 1) found = &*begin++;
  }
  return found;
}

std::vector<TextRun> SpecialTokens::split(std::string_view text) const {
  std::vector<TextRun> runs;
  size_t begin = 0;  // of what is in no run yet
  for (size_t at = 0; at < text.size();) {
    const Special* special = nullptr;
    if (is_first_byte_[byte_at(text, at)]) special = longest(text.substr(at));
    if (special == nullptr) {
      ++at;
      continue;
    }
    if (at > begin) runs.push_back({text.substr(begin, at - begin)});
    runs.push_back({text.substr(at, special->name.size()), special->token});
    at += special->name.size();
    begin = at;
  }
  if (begin < text.size()) runs.push_back({text.substr(begin)});
  return runs;
}

}  // namespace tandem
