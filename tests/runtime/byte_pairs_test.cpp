#include "runtime/byte_pairs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/runtime/bpe_vocabulary.h"

namespace tandem {
namespace {

std::vector<int32_t> tokens_of(const BytePairs& pairs, const std::string& word) {
  std::vector<int32_t> tokens;
  pairs.append(word, tokens);
  return tokens;
}

std::string bytes_of(const BytePairs& pairs, const std::vector<int32_t>& tokens) {
  std::string bytes;
  for (const int32_t token : tokens) bytes += pairs.bytes(token);
  return bytes;
}

std::string random_bytes(std::mt19937_64& random, uint64_t size, uint64_t kinds) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() % kinds);
  return bytes;
}

/// Merges of random tokens that there are already, over the first `kinds` bytes.
std::vector<std::string> random_merges(std::mt19937_64& random, int kinds, int count) {
  std::vector<std::string> names, merges;
  for (int byte = 0; byte < kinds; ++byte) names.push_back(byte_name(byte));
  while (std::ssize(merges) < count) {
    const std::string left = names[random() % names.size()], right = names[random() % names.size()];
    if (std::find(names.begin(), names.end(), left + right) != names.end()) continue;
    merges.push_back(left + " " + right);
    names.push_back(left + right);
  }
  return merges;
}

/// The definition, word by word: join the leftmost of the pairs whose merge is listed first, until
/// there is none.
std::vector<std::string> merged_by_definition(const std::vector<std::string>& merges,
                                              const std::string& word) {
  std::vector<std::string> parts;
  for (const char byte : word) parts.push_back(byte_name(static_cast<unsigned char>(byte)));
  while (true) {
    size_t best = merges.size(), place = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = std::find(merges.begin(), merges.end(), parts[i] + " " + parts[i + 1]);
      const auto rank = static_cast<size_t>(found - merges.begin());
      if (rank < best) std::tie(best, place) = std::pair{rank, i};
    }
    if (best == merges.size()) return parts;
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

}  // namespace

TEST_CASE("pairs merge in the order of the list, not of the text") {
  // 256 "bc", 257 "ab", 258 "abc" (of "ab" and "c"), 259 "aa".
  const BytePairs pairs(bpe_vocabulary({"b c", "a b", "ab c", "a a"}));
  CHECK(tokens_of(pairs, "abc") == std::vector<int32_t>{'a', 256});  // b c comes first
  CHECK(tokens_of(pairs, "abb") == std::vector<int32_t>{257, 'b'});
  CHECK(tokens_of(pairs, "aaa") == std::vector<int32_t>{259, 'a'});  // the leftmost of equals
  CHECK(tokens_of(pairs, "aaaa") == std::vector<int32_t>{259, 259});
  CHECK(tokens_of(pairs, "aab") == std::vector<int32_t>{'a', 257});
  CHECK(tokens_of(pairs, "x") == std::vector<int32_t>{'x'});
  CHECK(tokens_of(pairs, "").empty());
}

TEST_CASE("names of tokens are bytes in disguise") {
  // U+0120 is a space, U+010A a newline, U+0143 (the last of the 68) a soft hyphen, U+00E9 itself.
  const BytePairs pairs(bpe_vocabulary({"\xc4\xa0 t", "\xc4\x8a \xc4\x8a", "\xc5\x83 \xc3\xa9"}));
  CHECK(pairs.bytes(256) == " t");
  CHECK(pairs.bytes(257) == "\n\n");
  CHECK(pairs.bytes(258) == "\xad\xe9");
  CHECK(pairs.token(" t") == 256);
  CHECK(pairs.token("\n") == '\n');
  CHECK(pairs.token("absent") == -1);
  CHECK_FALSE(pairs.missing_byte());
  CHECK(tokens_of(pairs, " t\n\n\xad\xe9") == std::vector<int32_t>{256, 257, 258});
  for (int byte = 0; byte < 256; ++byte)
    CHECK(pairs.bytes(byte) == std::string(1, static_cast<char>(byte)));
}

TEST_CASE("a word is merged as the definition says, and its tokens are its bytes") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    const uint64_t kinds = 1 + random() % 5;
    const auto merges = random_merges(random, static_cast<int>(kinds), 1 + random() % 12);
    const BytePairs pairs(bpe_vocabulary(merges));
    for (int i = 0; i < 10; ++i) {
      const std::string word = random_bytes(random, random() % 60, kinds);
      const std::vector<int32_t> tokens = tokens_of(pairs, word);
      std::vector<std::string> names;
      for (const int32_t token : tokens)
        names.push_back(byte_names(std::string(pairs.bytes(token))));
      CAPTURE(round);
      CHECK(names == merged_by_definition(merges, word));
      CHECK(bytes_of(pairs, tokens) == word);
    }
  }
}

TEST_CASE("a word of a megabyte is merged, be it one letter or random") {
  // Every doubling up to 2^16 letters: all candidates are stale or merged at some time.
  std::vector<std::string> merges;
  for (int power = 0; power < 16; ++power)
    merges.push_back(std::string(size_t{1} << power, 'a') + " " +
                     std::string(size_t{1} << power, 'a'));
  const BytePairs doubling(bpe_vocabulary(merges));
  const std::vector<int32_t> tokens = tokens_of(doubling, std::string(size_t{1} << 20, 'a'));
  CHECK(tokens == std::vector<int32_t>(16, 256 + 15));  // 2^20 / 2^16 of the longest

  std::mt19937_64 random(3);
  const BytePairs pairs(bpe_vocabulary(random_merges(random, 4, 200)));
  const std::string word = random_bytes(random, size_t{1} << 20, 4);
  CHECK(bytes_of(pairs, tokens_of(pairs, word)) == word);
}

TEST_CASE("merges that cannot yield a token are left out, the others count") {
  Vocabulary vocabulary = bpe_vocabulary({"a b", "ab c"});
  const std::vector<std::string> broken{
      "",                // nothing
      "ab",              // no second token
      "a ",              // an empty one
      " a b",            // a token that begins with a space, which no name does
      "a c",             // no token "ac"
      "ac b",            // nor is it a part
      "a \xe2\x82\xac",  // no character that stands for a byte
      "a \xc4",          // half a character
      "b b c"};          // three
  vocabulary.merges.insert(vocabulary.merges.begin(), broken.begin(), broken.end());
  const BytePairs pairs(vocabulary);
  CHECK(tokens_of(pairs, "abc") == std::vector<int32_t>{257});
  CHECK(tokens_of(pairs, "acbbc") == std::vector<int32_t>{'a', 'c', 'b', 'b', 'c'});
}

TEST_CASE("a merge that is listed twice counts where it is first") {
  const BytePairs pairs(bpe_vocabulary({"a b", "b c", "a b"}));
  CHECK(tokens_of(pairs, "abc") == std::vector<int32_t>{256, 'c'});
}

TEST_CASE("of tokens with one name the first is encoded, and all are decoded") {
  Vocabulary vocabulary = bpe_vocabulary({"a b"});
  vocabulary.tokens.insert(vocabulary.tokens.end(), {"ab", "a", ""});
  vocabulary.types.resize(vocabulary.tokens.size(), token_type::kNormal);
  const BytePairs pairs(vocabulary);
  CHECK(tokens_of(pairs, "aba") == std::vector<int32_t>{256, 'a'});
  CHECK(pairs.bytes(257) == "ab");
  CHECK(pairs.bytes(258) == "a");
  CHECK(pairs.bytes(259).empty());
  CHECK(pairs.token("") == -1);
  CHECK(pairs.bytes(-1).empty());  // ids that are no token
  CHECK(pairs.bytes(260).empty());
  CHECK(pairs.bytes(INT32_MAX).empty());
}

TEST_CASE("names of control tokens are text, not bytes, and no word is one") {
  Vocabulary vocabulary = bpe_vocabulary({"a b"}, {"\xc4\xa0x"});
  vocabulary.types[256] = token_type::kUserDefined;
  const BytePairs pairs(vocabulary);
  CHECK(pairs.bytes(257) == "\xc4\xa0x");
  CHECK(pairs.token(" x") == -1);
  CHECK(pairs.token("ab") == -1);
  CHECK(tokens_of(pairs, "ab") == std::vector<int32_t>{'a', 'b'});
  // A name with a character that stands for no byte is text too.
  vocabulary.tokens[256] = "a\xe2\x82\xac";
  vocabulary.types.clear();
  const BytePairs other(vocabulary);
  CHECK(other.bytes(256) == "a\xe2\x82\xac");
  CHECK(other.token("a\xe2\x82\xac") == -1);
}

TEST_CASE("a byte without a token is named") {
  Vocabulary vocabulary = bpe_vocabulary({"a b"});
  vocabulary.tokens[0xad] = "x";  // there is one already
  CHECK(BytePairs(vocabulary).missing_byte() == 0xad);
}

}  // namespace tandem
