// Where the input tokens of a run come from: text, ids, or a generator.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/tokenizer.h"

namespace tandem {

struct TokenInputArgs {
  std::string prompt;
  std::string token_ids;
  int64_t random_prompt = 0;
  int64_t context = 0;  ///< positions filled with seeded values before the input

  bool is_text() const { return !prompt.empty() || !token_ids.empty(); }
};

/// --prompt, --token-ids, --random-prompt (one of them at most) and --context.
void add_token_input_options(CLI::App& app, TokenInputArgs& args);

/// Error unless some input is named.
void check_token_input(const TokenInputArgs& args);

/// `count` ids below vocab_size, the same for the same seed on every machine.
std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed);

/// The tokenizer of a model, or null where it has none; `why` then says so.
std::unique_ptr<Tokenizer> open_tokenizer(const Model& model, std::string& why);

/// The ids that `args` names; with a context alone, one random id. They need no model for their
/// checks, save text, which needs `tokenizer` (may be null; `why` says then why).
/// Error for ids outside the vocabulary, and for text where no tokenizer is.
std::vector<int32_t> input_tokens(const TokenInputArgs& args, const ModelSpec& spec, uint64_t seed,
                                  const Tokenizer* tokenizer, const std::string& why);

}  // namespace tandem
