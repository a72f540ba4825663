#include "runtime/special_tokens.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

namespace tandem {
namespace {

using Runs = std::vector<std::pair<std::string, int32_t>>;

/// Tokens 0, 1, ... of these names, all of one type.
SpecialTokens specials(const std::vector<std::string>& names) {
  Vocabulary vocabulary;
  vocabulary.tokens = names;
  vocabulary.types.resize(names.size(), token_type::kControl);
  return {vocabulary, {token_type::kControl}};
}

Runs runs(const SpecialTokens& tokens, const std::string& text) {
  Runs result;
  for (const TextRun& run : tokens.split(text)) result.emplace_back(run.text, run.token);
  return result;
}

}  // namespace

TEST_CASE("names of special tokens cut a text, whatever stands beside them") {
  const SpecialTokens tokens = specials({"<s>", "</s>"});
  CHECK(runs(tokens, "<s>a b</s>c") == Runs{{"<s>", 0}, {"a b", -1}, {"</s>", 1}, {"c", -1}});
  CHECK(runs(tokens, "<s><s>") == Runs{{"<s>", 0}, {"<s>", 0}});
  CHECK(runs(tokens, "<s </s") == Runs{{"<s </s", -1}});
  CHECK(runs(tokens, "<<s>") == Runs{{"<", -1}, {"<s>", 0}});
  CHECK(runs(tokens, "").empty());
}

TEST_CASE("of names with one begin the longest counts, of overlapping ones the first") {
  const SpecialTokens tokens = specials({"ab", "abcd", "a", "bc", "dx"});
  CHECK(runs(tokens, "abcd") == Runs{{"abcd", 1}});
  CHECK(runs(tokens, "abce") == Runs{{"ab", 0}, {"ce", -1}});
  CHECK(runs(tokens, "ax") == Runs{{"a", 2}, {"x", -1}});
  CHECK(runs(tokens, "xbcdx") == Runs{{"x", -1}, {"bc", 3}, {"dx", 4}});
  CHECK(runs(tokens, "abcdx") == Runs{{"abcd", 1}, {"x", -1}});
}

TEST_CASE("names may hold any bytes") {
  const SpecialTokens tokens = specials({"\xef\xbd\x9c", std::string("\0\xff", 2)});
  CHECK(runs(tokens, std::string("a\xef\xbd\x9c\0\xff\0", 7)) == Runs{{"a", -1},
                                                                      {"\xef\xbd\x9c", 0},
                                                                      {std::string("\0\xff", 2), 1},
                                                                      {std::string("\0", 1), -1}});
}

TEST_CASE("of tokens with one name the first is named, and tokens without a name never are") {
  const SpecialTokens tokens = specials({"", "<x>", "<x>"});
  CHECK(runs(tokens, "a<x>") == Runs{{"a", -1}, {"<x>", 1}});
}

TEST_CASE("only tokens of the types asked for are special, and none of more than 256 bytes") {
  Vocabulary vocabulary;
  vocabulary.tokens = {"n", "u", "c", std::string(256, 'x'), std::string(257, 'y')};
  vocabulary.types = {token_type::kNormal, token_type::kUnknown, token_type::kControl,
                      token_type::kControl, token_type::kControl};
  const SpecialTokens control(vocabulary, {token_type::kControl});
  CHECK(runs(control, "nuc") == Runs{{"nu", -1}, {"c", 2}});
  const SpecialTokens both(vocabulary, {token_type::kUnknown, token_type::kControl});
  CHECK(runs(both, "nuc") == Runs{{"n", -1}, {"u", 1}, {"c", 2}});
  CHECK(runs(control, std::string(256, 'x')) == Runs{{std::string(256, 'x'), 3}});
  CHECK(runs(control, std::string(257, 'y')) == Runs{{std::string(257, 'y'), -1}});
  vocabulary.types.clear();  // a file need not say them
  CHECK(runs({vocabulary, {token_type::kNormal}}, "n") == Runs{{"n", -1}});
}

}  // namespace tandem
