#include "runtime/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <cassert>
#include <cstdint>
#include <new>
#include <utility>

#include "runtime/gguf.h"
#include "runtime/utf8.h"

namespace tandem {
namespace {

/// What a name of tokenizer.ggml.pre means. Each expression splits the words that the one before it
/// left. Source: github.com/ggml-org/llama.cpp, src/llama-vocab.cpp, llm_tokenizer_bpe and
/// llama_vocab::impl::load. Of llama-bpe and qwen2 it quotes the expressions of the models'
/// tokenizer.json, which are those below; its own spell out the case of 's, 't and so on. Qwen's
/// tokenizer.json also normalises to NFC; llama.cpp does not, and neither do we.
struct Kind {
  std::array<std::string_view, 4> names;
  std::array<std::string_view, 4> expressions;
  bool ignore_merges = false, add_bos = false;
};

constexpr std::array<Kind, 3> kKinds{{
    {.names = {"default"},
     .expressions = {R"([\p{P}\$\+<=>\^~\|]+)",
                     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))",
                     R"(\p{N}+)", R"([0-9][0-9][0-9])"}},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3"},
     .expressions = {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     .ignore_merges = true,
     .add_bos = true},
    {.names = {"qwen2", "deepseek-r1-qwen"},
     .expressions = {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
}};

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
using Code = std::unique_ptr<pcre2_code, Free>;

/// One match at a time.
struct Matcher {
  std::unique_ptr<pcre2_match_data, Free> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Free> context{pcre2_match_context_create(nullptr)};

  Matcher() {
    if (!data || !context) throw std::bad_alloc();
    // No expression above backtracks more than linearly, but ten million spaces pass the usual one.
    pcre2_set_match_limit(context.get(), UINT32_MAX);
  }
};

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

/// `expression` with \s as the models' own libraries mean it; PCRE2 adds U+180E.
std::string with_unicode_spaces(std::string_view expression) {
  std::string result(expression);
  for (const auto& [from, to] :
       {std::pair{"\\s", "\\p{White_Space}"}, std::pair{"\\S", "\\P{White_Space}"}})
    for (size_t at = result.find(from); at != std::string::npos; at = result.find(from, at))
      result.replace(at, 2, to);
  return result;
}

Code compiled(std::string_view expression, std::string& why) {
  const std::string pattern = with_unicode_spaces(expression);
  int error = 0;
  size_t at = 0;
  Code code(
      pcre2_compile(units(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr));
  if (!code) {
    std::array<unsigned char, 128> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    why = fmt::format("this build's PCRE2 library refuses an expression: {}",
                      reinterpret_cast<const char*>(text.data()));
  }
  return code;
}

/// A copy of `text` that is UTF-8, byte for byte in its place: bytes that are not become U+0001,
/// which the expressions take for what they take U+FFFD for.
std::string masked(std::string_view text) {
  std::string result(text);
  for (size_t at = 0; at < text.size();) {
    const int64_t bytes = character_bytes(text.substr(at));
    if (bytes > 0) {
      at += static_cast<size_t>(bytes);
    } else {
      result[at++] = '\1';
    }
  }
  return result;
}

/// Appends the matches in `word` and what lies between them.
void split_word(const pcre2_code* code, Matcher& matcher, std::string_view word,
                std::vector<std::string_view>& words) {
  const size_t* match = pcre2_get_ovector_pointer(matcher.data.get());
  size_t begin = 0;
  while (begin < word.size()) {
    const int matches = pcre2_match(code, units(word), word.size(), begin, PCRE2_NO_UTF_CHECK,
                                    matcher.data.get(), matcher.context.get());
    if (matches == PCRE2_ERROR_NOMATCH) break;
    if (matches < 0) throw std::bad_alloc();  // the one error that is left
    assert(match[1] > match[0]);
    if (match[0] > begin) words.push_back(word.substr(begin, match[0] - begin));
    words.push_back(word.substr(match[0], match[1] - match[0]));
    begin = match[1];
  }
  if (begin < word.size()) words.push_back(word.substr(begin));
}

class RegexPreTokenizer final : public PreTokenizer {
 public:
  RegexPreTokenizer(const Kind& kind, std::vector<Code> expressions)
      : expressions_(std::move(expressions)) {
    ignore_merges = kind.ignore_merges;
    add_bos = kind.add_bos;
  }

  std::vector<std::string_view> split(std::string_view text) const override {
    const std::string copy = masked(text);
    Matcher matcher;
    std::vector<std::string_view> words{copy};
    if (copy.empty()) words.clear();
    for (const Code& code : expressions_) {
      std::vector<std::string_view> parts;
      for (const std::string_view word : words) split_word(code.get(), matcher, word, parts);
      words = std::move(parts);
    }
    for (std::string_view& word : words)
      word = text.substr(static_cast<size_t>(word.data() - copy.data()), word.size());
    return words;
  }

 private:
  std::vector<Code> expressions_;
};

/// The kind of that name, or null; `why` then lists the names there are.
const Kind* find_kind(std::string_view name, std::string& why) {
  std::string known;
  for (const Kind& kind : kKinds) {
    for (const std::string_view other : kind.names) {
      if (other.empty()) continue;
      if (other == name) return &kind;
      known += (known.empty() ? "" : ", ") + std::string(other);
    }
  }
  why = fmt::format("tokenizer.ggml.pre is '{}', known are {}", printable(name), known);
  return nullptr;
}

}  // namespace

std::unique_ptr<PreTokenizer> PreTokenizer::open(std::string_view name, std::string& why) {
  const Kind* kind = find_kind(name, why);
  if (kind == nullptr) return nullptr;
  std::vector<Code> expressions;
  for (const std::string_view expression : kind->expressions) {
    if (expression.empty()) continue;
    expressions.push_back(compiled(expression, why));
    if (!expressions.back()) return nullptr;
  }
  return std::make_unique<RegexPreTokenizer>(*kind, std::move(expressions));
}

}  // namespace tandem
