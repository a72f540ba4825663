#include "runtime/tokenizer.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/model.h"

namespace tandem {
namespace {

const std::string kLicenceData = std::string(TANDEM_SOURCE_DIR) + "/tests/data/";

/// Null, with a message, in a build without sentencepiece: then there is nothing to test.
std::unique_ptr<Tokenizer> open_tokenizer(const Vocabulary& vocabulary) {
  std::string why;
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::open(vocabulary, why);
  if (!tokenizer) MESSAGE("skipped: " << why);
  CHECK(why.empty() == (tokenizer != nullptr));
  return tokenizer;
}

Vocabulary licence_vocabulary() {
  return *open_gguf(kLicenceData + "licence-q8_0.gguf").vocabulary;
}

std::string decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens) {
  std::string text;
  for (const int32_t token : tokens) text += tokenizer.piece(token);
  return text;
}

/// Runs of spaces and newlines as one space, none at the ends, as text.yaml writes greedy_text.
std::string squeezed(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n';
    if (!space || (!result.empty() && result.back() != ' ')) result += space ? ' ' : c;
  }
  return result;
}

}  // namespace

TEST_CASE("prompts encode to the golden tokens, BOS first, and their pieces give the text back") {
  const auto tokenizer = open_tokenizer(licence_vocabulary());
  if (!tokenizer) return;
  for (const YAML::Node& golden : YAML::LoadFile(kLicenceData + "text.yaml")) {
    const auto prompt = golden["prompt"].as<std::string>();
    CAPTURE(prompt);
    const std::vector<int32_t> tokens = tokenizer->encode(prompt);
    CHECK(tokens == golden["prompt_tokens"].as<std::vector<int32_t>>());
    CHECK(decoded(*tokenizer, tokens) == " " + prompt);  // the vocabulary's space in front
  }
}

TEST_CASE("golden continuations read as the golden text") {
  const auto tokenizer = open_tokenizer(licence_vocabulary());
  if (!tokenizer) return;
  for (const YAML::Node& golden : YAML::LoadFile(kLicenceData + "text.yaml")) {
    const auto text =
        squeezed(decoded(*tokenizer, golden["greedy_tokens"].as<std::vector<int32_t>>()));
    CHECK(text.starts_with(golden["greedy_text"].as<std::string>()));
  }
}

TEST_CASE("bytes that no piece covers become byte tokens and come back") {
  const auto tokenizer = open_tokenizer(licence_vocabulary());
  if (!tokenizer) return;
  const std::string text = "\xe2\x82\xac\n\n  \x7f";  // a euro sign, newlines, two spaces, DEL
  CHECK(decoded(*tokenizer, tokenizer->encode(text)) == " " + text);
  CHECK(tokenizer->piece(1).empty());  // <s>
  CHECK(tokenizer->is_end(2));
  CHECK_FALSE(tokenizer->is_end(1));
}

TEST_CASE("BOS, EOS and the space in front come only where the vocabulary asks for them") {
  Vocabulary vocabulary = licence_vocabulary();
  vocabulary.add_bos = false;
  vocabulary.add_eos = true;
  vocabulary.add_space_prefix = false;
  const auto tokenizer = open_tokenizer(vocabulary);
  if (!tokenizer) return;
  const std::vector<int32_t> tokens = tokenizer->encode("free");
  CHECK(tokens.front() != 1);
  CHECK(tokens.back() == 2);
  CHECK(decoded(*tokenizer, tokens) == "free");
}

TEST_CASE("names of control tokens in text are those tokens, with the space in front behind them") {
  const auto tokenizer = open_tokenizer(licence_vocabulary());
  if (!tokenizer) return;
  const std::vector<int32_t> free = tokenizer->encode("free");  // BOS first
  std::vector<int32_t> expected = free;
  expected.push_back(2);
  expected.insert(expected.end(), free.begin() + 1, free.end());
  CHECK(tokenizer->encode("free</s>free") == expected);
  CHECK(decoded(*tokenizer, expected) == " free free");
  expected = free;
  expected.insert(expected.begin(), 1);  // BOS twice, as the text names it
  CHECK(tokenizer->encode("<s>free") == expected);
}

TEST_CASE("a vocabulary of another kind has no tokenizer and says why") {
  Vocabulary vocabulary = licence_vocabulary();
  vocabulary.model = "bert";
  std::string why;
  CHECK(Tokenizer::open(vocabulary, why) == nullptr);
  CHECK(why.find("'bert'") != std::string::npos);
}

}  // namespace tandem
