#include "runtime/utf8.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

namespace tandem {

TEST_CASE("a character has the bytes that the Unicode standard says, and nothing else is one") {
  struct Case {
    std::string text;
    int64_t bytes;
  };
  // The first and last of every length, and what lies right beside the limits of table 3-7.
  const std::vector<Case> cases{{std::string(1, '\0'), 1},
                                {"\x7f", 1},
                                {"\xc2\x80", 2},
                                {"\xdf\xbf", 2},
                                {"\xe0\xa0\x80", 3},
                                {"\xed\x9f\xbf", 3},  // U+D7FF
                                {"\xee\x80\x80", 3},  // U+E000
                                {"\xef\xbf\xbf", 3},
                                {"\xf0\x90\x80\x80", 4},
                                {"\xf4\x8f\xbf\xbf", 4},             // U+10FFFF
                                {"\x80", kNoCharacter},              // no first byte
                                {"\xc1\xbf", kNoCharacter},          // U+007F in two bytes
                                {"\xe0\x9f\xbf", kNoCharacter},      // U+07FF in three
                                {"\xf0\x8f\xbf\xbf", kNoCharacter},  // U+FFFF in four
                                {"\xed\xa0\x80", kNoCharacter},      // U+D800, a surrogate
                                {"\xf4\x90\x80\x80", kNoCharacter},  // U+110000
                                {"\xf5\x80\x80\x80", kNoCharacter},
                                {"\xff", kNoCharacter},
                                {"\xe2\x82z", kNoCharacter},
                                {"\xe2", kCutCharacter},
                                {"\xe2\x82", kCutCharacter},
                                {"\xf0\x9f\x98", kCutCharacter},
                                {"\xe0\x80", kNoCharacter}};  // cut, but no end would make it one
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(character_bytes(c.text) == c.bytes);
  }
  CHECK(character_bytes("\xc3\xa9tude") == 2);  // only the first counts
}

TEST_CASE("streamed text comes in whole characters, each with its last byte") {
  // U+20AC and U+1F600, byte by byte, with a letter between them.
  Utf8Stream stream;
  const std::string text = "\xe2\x82\xac!\xf0\x9f\x98\x80";
  std::vector<std::string> parts;
  for (const char byte : text) parts.push_back(stream.add({&byte, 1}));
  CHECK(parts ==
        std::vector<std::string>{"", "", "\xe2\x82\xac", "!", "", "", "", "\xf0\x9f\x98\x80"});
  CHECK(stream.finish().empty());
}

TEST_CASE("a character cut by the end of all text comes at the end, other broken bytes at once") {
  Utf8Stream stream;
  CHECK(stream.add("a\xff\x80") == "a\xff\x80");
  CHECK(stream.add("b\xf0\x9f") == "b");
  CHECK(stream.add("c") ==
        "\xf0\x9f"
        "c");  // it was no character after all
  CHECK(stream.add("\xe2\x82") == "");
  CHECK(stream.finish() == "\xe2\x82");
  CHECK(stream.finish().empty());
}

TEST_CASE("a stream of random bytes in random pieces loses nothing") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    Utf8Stream stream;
    std::string all, streamed;
    for (uint64_t piece = 0; piece < random() % 20; ++piece) {
      std::string bytes(random() % 6, '\0');
      // Bytes of multi-byte characters, mostly.
      for (char& byte : bytes) byte = static_cast<char>(0x80 | random());
      all += bytes;
      streamed += stream.add(bytes);
      CHECK(all.size() - streamed.size() <= 3);
    }
    CHECK(streamed + stream.finish() == all);
  }
}

}  // namespace tandem
