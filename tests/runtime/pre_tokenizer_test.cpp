#include "runtime/pre_tokenizer.h"

#include <doctest/doctest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

namespace tandem {
namespace {

using Words = std::vector<std::string>;

struct Case {
  std::string text;
  Words words;
};

/// Null, with a message, in a build without PCRE2: then there is nothing to test.
std::unique_ptr<PreTokenizer> open(const std::string& name) {
  std::string why;
  std::unique_ptr<PreTokenizer> pre_tokenizer = PreTokenizer::open(name, why);
  if (!pre_tokenizer) MESSAGE("skipped: " << why);
  CHECK(why.empty() == (pre_tokenizer != nullptr));
  return pre_tokenizer;
}

Words words_of(const PreTokenizer& pre_tokenizer, const std::string& text) {
  Words words;
  for (const std::string_view word : pre_tokenizer.split(text)) words.emplace_back(word);
  return words;
}

void check(const std::string& name, const std::vector<Case>& cases) {
  const auto pre_tokenizer = open(name);
  if (!pre_tokenizer) return;
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(words_of(*pre_tokenizer, c.text) == c.words);
  }
}

/// What llama-bpe and qwen2 have in common: all but numbers.
const std::vector<Case> kCommon{
    {"", {}},
    {"Hello world", {"Hello", " world"}},
    // A contraction is split off in either case; an apostrophe behind a space opens a quotation.
    {"I'm they'REal don'Tx 'tis",
     {"I", "'m", " they", "'RE", "al", " don", "'T", "x", " '", "tis"}},
    {"we'Ve'Ll'D", {"we", "'Ve", "'Ll", "'D"}},
    // Of a run of spaces the last goes with the word behind it, the others together.
    {"a   b", {"a", "  ", " b"}},
    {"a   ", {"a", "   "}},
    {"a\tb", {"a", "\tb"}},
    {"a\t!", {"a", "\t", "!"}},
    // Newlines end a run of spaces, and go with punctuation before them.
    {"x\n\n  y\r\n", {"x", "\n\n", " ", " y", "\r\n"}},
    {" \n \n  z", {" \n \n", " ", " z"}},
    {"end.\n\nNew", {"end", ".\n\n", "New"}},
    // One character of punctuation goes with the letters behind it.
    {"(a) [b", {"(a", ")", " [", "b"}},
    {"$x=-y", {"$x", "=-", "y"}},
    // Letters of any script: CJK is one word, as there are no spaces.
    {"\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8 \u043f\u0440\u0438\u0432\u0435\u0442",
     {"\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8", " \u043f\u0440\u0438\u0432\u0435\u0442"}},
    // Emoji, with a modifier and a joiner, are no letters.
    {"hi \U0001f44d\U0001f3fd\u200d!", {"hi", " \U0001f44d\U0001f3fd\u200d!"}},
    // A combining mark is no letter: it begins a word, as any one character may.
    {"e\u0301a\u0301", {"e", "\u0301a", "\u0301"}},
    // Spaces beyond ASCII: U+00A0, U+3000; U+0085 is one, U+180E none (any more).
    {"a\u00a0b\u3000\u3000c", {"a", "\u00a0b", "\u3000", "\u3000c"}},
    {"a\xc2\x85\xc2\x85z", {"a", "\xc2\x85", "\xc2\x85z"}},
    {"a \u180e b", {"a", " \u180e", " b"}},
    // (?i:'s) is Unicode's: U+017F is an s.
    {"it'\u017fx", {"it", "'\u017f", "x"}},
    // Bytes that are no UTF-8 are characters that are neither letter nor space.
    {"a\xff b\x80", {"a", "\xff", " b", "\x80"}},
    {"\xffx \xe2\x82", {"\xffx", " \xe2\x82"}},
    {std::string("a\0\0 b", 5), {"a", std::string("\0\0", 2), " b"}},
};

/// Random pieces of what the expressions tell apart.
std::string random_text(std::mt19937_64& random) {
  static const std::vector<std::string> kParts{
      " ",      "\n",     "\r",      "\t",       "a",      "Zs",     "'",      "'s",
      "1",      "23",     ".",       "$",        "\u00e9", "\u0301", "\u00a0", "\U0001f600",
      "\u65e5", "\u0663", "\xff",    "\xe2\x82", "'l",     "\x80",   "_",      "\u2028",
      "\u3000", "\u00bd", "\u0345x", "(",        "\x7f",   "'RE"};
  std::string text;
  for (uint64_t left = random() % 30; left > 0; --left) text += kParts[random() % kParts.size()];
  return text;
}

}  // namespace

TEST_CASE("llama-bpe and qwen2 split text into the words of their tokenizer.json") {
  check("llama-bpe", kCommon);
  check("qwen2", kCommon);
}

TEST_CASE("llama-bpe takes numbers three digits at a time, from the left") {
  check("llama-bpe",
        {{"1 12 123 1234 12345", {"1", " ", "12", " ", "123", " ", "123", "4", " ", "123", "45"}},
         {"x86_64", {"x", "86", "_", "64"}},
         {"3.14", {"3", ".", "14"}},
         // Numbers of any script, and numbers that are no digits: U+00BD, U+2167.
         {"\u0661\u0662\u0663\u0664\u00bd\u2167", {"\u0661\u0662\u0663", "\u0664\u00bd\u2167"}}});
}

TEST_CASE("qwen2 takes every digit by itself") {
  check("qwen2", {{"1 123", {"1", " ", "1", "2", "3"}},
                  {"x86_64", {"x", "8", "6", "_", "6", "4"}},
                  {"\u0661\u00bd", {"\u0661", "\u00bd"}}});
}

TEST_CASE("default splits punctuation off, then words as GPT-2, then numbers") {
  check("default",
        {{"", {}},
         {"Hello, world 12345!", {"Hello", ",", " world", " ", "123", "45", "!"}},
         {"don't", {"don", "'", "t"}},  // the apostrophe is punctuation first
         {"$5+x<=y", {"$", "5", "+", "x", "<=", "y"}},
         {"a!?b", {"a", "!?", "b"}},
         {"a   b\n", {"a", "  ", " b", "\n"}},
         {"a\tb", {"a", "\t", "b"}},
         {"a !b", {"a", " ", "!", "b"}},  // a word is split by itself: its space is at its end
         {"\u0661\u0662\u0663\u0664 1234", {"\u0661\u0662\u0663\u0664", " ", "123", "4"}},
         {"a\xff\xff!", {"a", "\xff\xff", "!"}}});
}

TEST_CASE("the words of any bytes, one after the other, are the text") {
  std::mt19937_64 random(5);
  for (const char* name : {"default", "llama-bpe", "qwen2"}) {
    const auto pre_tokenizer = open(name);
    if (!pre_tokenizer) return;
    for (int round = 0; round < 2000; ++round) {
      const std::string text = random_text(random);
      std::string joined;
      for (const std::string_view word : pre_tokenizer->split(text)) {
        CHECK_FALSE(word.empty());
        joined += word;
      }
      CAPTURE(name);
      CHECK(joined == text);
    }
  }
}

TEST_CASE("megabytes of one character are split") {
  constexpr size_t kSpaces = 10'100'000;  // PCRE2 gives up at 10 million steps unless told
  constexpr size_t kSize = size_t{1} << 20;
  for (const char* name : {"default", "llama-bpe", "qwen2"}) {
    const auto pre_tokenizer = open(name);
    if (!pre_tokenizer) return;
    CAPTURE(name);
    CHECK(pre_tokenizer->split(std::string(kSpaces, ' ') + "x").size() == 2);
    CHECK(pre_tokenizer->split(std::string(kSize, 'x')).size() == 1);
    CHECK(pre_tokenizer->split(std::string(kSize, '.')).size() == 1);
  }
}

TEST_CASE("each pre-tokenizer says what else goes with its models") {
  const auto llama = open("llama-bpe");
  if (!llama) return;
  CHECK(llama->ignore_merges);
  CHECK(llama->add_bos);
  for (const char* name : {"qwen2", "default"}) {
    const auto other = open(name);
    CHECK_FALSE(other->ignore_merges);
    CHECK_FALSE(other->add_bos);
  }
  for (const char* alias : {"llama3", "llama-v3", "falcon3"}) CHECK(open(alias)->ignore_merges);
  CHECK(words_of(*open("deepseek-r1-qwen"), "12") == Words{"1", "2"});
}

TEST_CASE("a name that is not known is named, with those that are") {
  if (!open("default")) return;
  for (const std::string name : {"tekken", "", "qwen", "QWEN2"}) {
    std::string why;
    CHECK(PreTokenizer::open(name, why) == nullptr);
    CHECK(why == "tokenizer.ggml.pre is '" + name +
                     "', known are default, llama-bpe, llama3, llama-v3, falcon3, qwen2, "
                     "deepseek-r1-qwen");
  }
  std::string why;
  CHECK(PreTokenizer::open("a\nb", why) == nullptr);
  CHECK(why.find('\n') == std::string::npos);
}

}  // namespace tandem
