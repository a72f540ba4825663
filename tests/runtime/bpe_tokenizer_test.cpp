#include <doctest/doctest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "runtime/pre_tokenizer.h"
#include "runtime/tokenizer.h"
#include "runtime/utf8.h"
#include "tests/runtime/bpe_vocabulary.h"

namespace tandem {
namespace {

/// 256 "he", 257 "ll", 258 "llo", 259 "hello", 260 " w"; then 261 <s>, 262 </s>, 263 <|im_end|>.
/// "hello" is no merge of "he" and "llo": only a whole word can be it.
Vocabulary hello_vocabulary(const std::string& pre) {
  Vocabulary vocabulary =
      bpe_vocabulary({"h e", "l l", "ll o", "hell o", "\xc4\xa0 w"}, {"<s>", "</s>", "<|im_end|>"});
  vocabulary.pre = pre;
  vocabulary.bos = 261;
  vocabulary.eos = 262;
  return vocabulary;
}

/// Null, with a message, in a build without PCRE2: then there is nothing to test.
std::unique_ptr<Tokenizer> open(const Vocabulary& vocabulary) {
  std::string why;
  std::unique_ptr<Tokenizer> tokenizer = Tokenizer::open(vocabulary, why);
  if (!tokenizer) MESSAGE("skipped: " << why);
  CHECK(why.empty() == (tokenizer != nullptr));
  return tokenizer;
}

std::string refusal(const Vocabulary& vocabulary) {
  std::string why;
  CHECK(Tokenizer::open(vocabulary, why) == nullptr);
  CHECK(why.find('\n') == std::string::npos);
  return why;
}

std::string text_of(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens) {
  std::string text;
  for (const int32_t token : tokens) text += tokenizer.piece(token);
  return text;
}

using Ids = std::vector<int32_t>;

}  // namespace

// bpe.json: merges trained on this repository's README and LICENSE, tokens that no merge yields
// ("extra", which only ignore_merges can find), and texts with the words and ids that Hugging
// Face's tokenizers 0.23 makes of them: Split(Regex(...), "isolated") with the expression of the
// model's tokenizer.json, ByteLevel, BPE(ignore_merges for llama-bpe). Words of default, which is
// llama.cpp's own, are by Python's regex. Texts are chosen by hand, then random strings of awkward
// parts.
TEST_CASE("words and ids are those of the models' own tokenizers") {
  const auto golden =
      nlohmann::json::parse(std::ifstream(TANDEM_SOURCE_DIR "/tests/data/bpe.json"));
  Vocabulary vocabulary = bpe_vocabulary(golden["merges"]);
  for (const std::string extra : golden["extra"]) vocabulary.tokens.push_back(extra);
  vocabulary.types.resize(vocabulary.tokens.size(), token_type::kNormal);
  vocabulary.add_bos = false;
  for (const std::string pre : {"default", "llama-bpe", "qwen2"}) {
    vocabulary.pre = pre;
    const auto tokenizer = open(vocabulary);
    if (!tokenizer) return;
    std::string why;
    const auto pre_tokenizer = PreTokenizer::open(pre, why);
    CAPTURE(pre);
    for (const auto& entry : golden["cases"]) {
      const auto text = entry["text"].get<std::string>();
      CAPTURE(text);
      std::vector<std::string> words;
      for (const std::string_view word : pre_tokenizer->split(text)) words.emplace_back(word);
      CHECK(words == entry[pre].get<std::vector<std::string>>());
      const Ids ids = tokenizer->encode(text);
      CHECK(text_of(*tokenizer, ids) == text);
      if (pre != "default") CHECK(ids == entry[pre + " ids"].get<Ids>());
    }
  }
}

TEST_CASE("BOS comes first with llama-bpe, not with qwen2 or default, but where the file says") {
  Vocabulary llama = hello_vocabulary("llama-bpe"), qwen = hello_vocabulary("qwen2");
  if (!open(llama)) return;
  CHECK(open(llama)->encode("he") == Ids{261, 256});
  CHECK(open(qwen)->encode("he") == Ids{256});
  CHECK(open(hello_vocabulary("default"))->encode("he") == Ids{256});
  llama.add_bos = false;
  qwen.add_bos = true;
  CHECK(open(llama)->encode("he") == Ids{256});
  CHECK(open(qwen)->encode("he") == Ids{261, 256});
  qwen.add_eos = true;
  CHECK(open(qwen)->encode("he") == Ids{261, 256, 262});
  CHECK(open(qwen)->encode("") == Ids{261, 262});
}

TEST_CASE("a whole word that is a token is taken with llama-bpe, merged with qwen2") {
  Vocabulary llama = hello_vocabulary("llama-bpe"), qwen = hello_vocabulary("qwen2");
  if (!open(llama)) return;
  llama.add_bos = false;
  CHECK(open(llama)->encode("hello") == Ids{259});
  CHECK(open(qwen)->encode("hello") == Ids{256, 258});  // he llo: there is no "hell"
  CHECK(open(llama)->encode("hellos") == Ids{256, 258, 's'});
}

TEST_CASE("words are merged apart") {
  const auto tokenizer = open(hello_vocabulary("qwen2"));
  if (!tokenizer) return;
  // "hel", " w", "l" and so on: l and l of two words do not meet.
  CHECK(tokenizer->encode("hel l wll") == Ids{256, 'l', ' ', 'l', 260, 257});
}

TEST_CASE("control tokens are found in text by their names, and are silent in it") {
  const auto tokenizer = open(hello_vocabulary("llama-bpe"));
  if (!tokenizer) return;
  const Ids ids{261, 261, 256, 263, '\n', 260, '<', 's'};
  CHECK(tokenizer->encode("<s>he<|im_end|>\n w<s") == ids);  // BOS twice, as the text names it
  CHECK(text_of(*tokenizer, ids) == "he\n w<s");
}

TEST_CASE("user-defined tokens are found in text and are their names; unused ones are silent") {
  Vocabulary vocabulary = hello_vocabulary("qwen2");
  vocabulary.types[261] = token_type::kUserDefined;
  vocabulary.types[262] = token_type::kUnused;
  vocabulary.types[263] = token_type::kUnknown;
  const auto tokenizer = open(vocabulary);
  if (!tokenizer) return;
  CHECK(tokenizer->encode("he<s>") == Ids{256, 261});
  CHECK(tokenizer->encode("</s>") == Ids{'<', '/', 's', '>'});
  CHECK(tokenizer->encode("<|im_end|>") == Ids{263});
  CHECK(text_of(*tokenizer, {261, 262, 263, 256}) == "<s>he");
}

TEST_CASE("EOS, end of turn and the names that models end a turn with end a text") {
  Vocabulary vocabulary = hello_vocabulary("qwen2");
  vocabulary.eot = 'x';
  const auto tokenizer = open(vocabulary);
  if (!tokenizer) return;
  for (const int32_t token : {262, 263, int32_t{'x'}}) CHECK(tokenizer->is_end(token));
  for (const int32_t token : {261, 256, -1, 264, INT32_MAX}) CHECK_FALSE(tokenizer->is_end(token));
}

TEST_CASE("random bytes come back from their tokens, whatever the pre-tokenizer") {
  std::mt19937_64 random(17);
  for (const char* pre : {"default", "llama-bpe", "qwen2"}) {
    const auto tokenizer = open(hello_vocabulary(pre));
    if (!tokenizer) return;
    for (int round = 0; round < 500; ++round) {
      std::string text(random() % 80, '\0');
      for (char& byte : text)
        byte = static_cast<char>(random() % 2 ? random() : "hel ow"[random() % 6]);
      CAPTURE(pre);
      CHECK(text_of(*tokenizer, tokenizer->encode(text)) == text);
    }
    const std::string word(size_t{1} << 20, 'l');
    CHECK(tokenizer->encode(word).size() >= word.size() / 2);
    CHECK(text_of(*tokenizer, tokenizer->encode(word)) == word);
  }
}

TEST_CASE("a character of several tokens streams out whole") {
  const auto tokenizer = open(hello_vocabulary("qwen2"));
  if (!tokenizer) return;
  Utf8Stream stream;
  std::vector<std::string> parts;
  for (const int32_t token : tokenizer->encode("he\u20acll"))
    parts.push_back(stream.add(tokenizer->piece(token)));
  CHECK(parts == std::vector<std::string>{"he", "", "", "\u20ac", "ll"});
}

TEST_CASE("ids that are no token add nothing") {
  const auto tokenizer = open(hello_vocabulary("qwen2"));
  if (!tokenizer) return;
  for (const int32_t token : {-1, 264, INT32_MIN, INT32_MAX})
    CHECK(tokenizer->piece(token).empty());
}

TEST_CASE("a vocabulary without types has no special tokens, and works") {
  Vocabulary vocabulary = hello_vocabulary("qwen2");
  vocabulary.types.clear();
  const auto tokenizer = open(vocabulary);
  if (!tokenizer) return;
  CHECK(tokenizer->encode("he<s>") == Ids{256, '<', 's', '>'});
  CHECK(tokenizer->piece(261) == "<s>");
}

TEST_CASE("a vocabulary that text cannot be encoded with is refused in one sentence") {
  if (!open(hello_vocabulary("qwen2"))) return;
  const auto refused = [](void (*spoil)(Vocabulary&)) {
    Vocabulary vocabulary = hello_vocabulary("llama-bpe");
    spoil(vocabulary);
    return refusal(vocabulary);
  };
  CHECK(refused([](Vocabulary& v) { v.pre = "tekken"; }).find("'tekken', known are default, ") !=
        std::string::npos);
  CHECK(refused([](Vocabulary& v) { v.merges.clear(); }) ==
        "the vocabulary has no tokenizer.ggml.merges");
  CHECK(refused([](Vocabulary& v) { v.tokens[10] = "x"; }) ==
        "the vocabulary has no token for the byte 0x0a");
  for (const auto spoil : {+[](Vocabulary& v) { v.bos = -1; }, +[](Vocabulary& v) { v.bos = 264; }})
    CHECK(refused(spoil).find("tokenizer.ggml.bos_token_id") != std::string::npos);
  CHECK(refused([](Vocabulary& v) {
          v.add_eos = true;
          v.eos = -1;
        }).find("tokenizer.ggml.eos_token_id") != std::string::npos);
  CHECK(refused([](Vocabulary& v) { v.types.pop_back(); }) ==
        "the vocabulary has not one type for each token");
}

}  // namespace tandem
