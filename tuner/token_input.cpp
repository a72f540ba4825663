#include "tuner/token_input.h"

#include <fmt/format.h>

#include <random>

#include "kernels/error.h"
#include "tuner/cli.h"
#include "tuner/format.h"

namespace tandem {
namespace {

void check_ids(const std::vector<int32_t>& ids, int64_t vocab_size) {
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab_size)
      throw Error(fmt::format("--token-ids: {} is no token, expected 0 .. {}", id, vocab_size - 1));
}

std::vector<int32_t> encode(const std::string& text, const Tokenizer* tokenizer,
                            const std::string& why) {
  if (tokenizer == nullptr)
    throw Error(fmt::format("--prompt: no text for this model: {}; use --token-ids", why));
  return tokenizer->encode(text);
}

}  // namespace

void add_token_input_options(CLI::App& app, TokenInputArgs& args) {
  CLI::Option* prompt = app.add_option("--prompt", args.prompt, "text to continue");
  CLI::Option* ids =
      app.add_option("--token-ids", args.token_ids, "ids to continue, verbatim, e.g. 1,5,9");
  CLI::Option* random = app.add_option("--random-prompt", args.random_prompt,
                                       "continue so many random tokens (by --seed)");
  prompt->excludes(ids)->excludes(random);
  ids->excludes(random);
  app.add_option("--context", args.context,
                 "positions of seeded keys and values before the input, which alone is one random "
                 "token")
      ->check(CLI::NonNegativeNumber);
  random->check(CLI::PositiveNumber);
}

void check_token_input(const TokenInputArgs& args) {
  if (args.is_text() || args.random_prompt > 0 || args.context > 0) return;
  throw Error("no input: expected --prompt, --token-ids, --random-prompt or --context");
}

std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens)
    token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  return tokens;
}

std::unique_ptr<Tokenizer> open_tokenizer(const Model& model, std::string& why) {
  if (model.vocabulary) return Tokenizer::open(*model.vocabulary, why);
  why = "it has no vocabulary";
  return nullptr;
}

std::vector<int32_t> input_tokens(const TokenInputArgs& args, const ModelSpec& spec, uint64_t seed,
                                  const Tokenizer* tokenizer, const std::string& why) {
  if (!args.prompt.empty()) return encode(args.prompt, tokenizer, why);
  if (args.token_ids.empty()) {
    check_context(spec, args.context, args.random_prompt);
    return random_tokens(std::max<int64_t>(args.random_prompt, 1), spec.vocab_size, seed);
  }
  std::vector<int32_t> ids = parse_integers(args.token_ids, "--token-ids");
  if (ids.empty()) throw Error("--token-ids: it names no id, expected some, as 1,5,9");
  check_ids(ids, spec.vocab_size);
  return ids;
}

}  // namespace tandem
