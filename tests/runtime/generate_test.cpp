#include "runtime/generate.h"

#include <doctest/doctest.h>

#include "profiles/topology.h"
#include "runtime/sampling.h"

namespace tandem {
namespace {

/// The bundled random model on one core.
struct OneUnit {
  Model model = open_gguf(TANDEM_SOURCE_DIR "/tests/data/llama-q8_0.gguf");
  std::vector<Unit> units;
  std::unique_ptr<Executor> executor;

  OneUnit() {
    const Machine machine = detect_machine();
    units = default_units(machine);
    units.resize(1);
    units[0].cores.resize(1);
    const Plan plan = single_unit_plan(model.spec, {units[0].name}, 0);
    executor = std::make_unique<Executor>(
        model, plan, units,
        ExecutorOptions{
            .max_context = 64, .max_tokens = 16, .max_logits_rows = 16, .progress = {}});
  }
  GenerateResult run(const GenerateOptions& options) {
    executor->set_context(0);
    return generate(*executor, prompt(), options);
  }
  static std::vector<int32_t> prompt() { return {1, 78, 222, 129, 236, 281, 466, 64, 155, 194}; }
};

GenerateOptions options_of(int64_t new_tokens, int64_t max_tokens) {
  GenerateOptions options;
  options.new_tokens = new_tokens;
  options.max_tokens = max_tokens;
  return options;
}

TEST_CASE("A prompt is taken in by steps of at most max_tokens, with logits in the last") {
  const auto steps = prefill_steps(10, 4, 100);
  REQUIRE(steps.size() == 3);
  CHECK(steps[0].tokens == 4);
  CHECK(steps[0].context == 100);
  CHECK(steps[0].logits_rows == 0);
  CHECK(steps[2].tokens == 2);
  CHECK(steps[2].context == 108);
  CHECK(steps[2].logits_rows == 1);
  CHECK(prefill_steps(0, 4, 0).empty());
}

TEST_CASE("The median is the middle value, or the mean of the two in the middle") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == 2.5);
  CHECK(median({}) == 0);
}

TEST_CASE("The prompt's division into steps does not change the tokens") {
  OneUnit unit;
  const auto whole = unit.run(options_of(12, 16));
  const auto parts = unit.run(options_of(12, 3));
  CHECK(whole.tokens.size() == 12);
  CHECK(whole.tokens == parts.tokens);
  CHECK(whole.prefill.step_s.size() == 1);
  CHECK(parts.prefill.step_s.size() == 4);  // 3 + 3 + 3 + 1
  CHECK(parts.prefill.tokens == 10);
  // The last token is chosen from logits of the one before: 11 steps make 12 tokens.
  CHECK(whole.decode.step_s.size() == 11);
}

TEST_CASE(
    "All logits are a row per prompt token, then one per new token, and agree with the last") {
  OneUnit unit;
  std::vector<float> rows;
  GenerateOptions options = options_of(3, 4);
  options.all_logits = true;
  options.on_step = [&](const StepRun& run) {
    rows.insert(rows.end(), run.logits.begin(), run.logits.end());
  };
  const auto result = unit.run(options);
  const auto vocab = static_cast<size_t>(unit.model.spec.vocab_size);
  REQUIRE(rows.size() == (10 + 3) * vocab);
  CHECK(greedy_token(std::span(rows).subspan(9 * vocab, vocab)) == result.tokens[0]);
  CHECK(greedy_token(std::span(rows).subspan(11 * vocab, vocab)) == result.tokens[2]);
}

TEST_CASE("No new tokens is legal") {
  OneUnit unit;
  const auto result = unit.run(options_of(0, 16));
  CHECK(result.tokens.empty());
  CHECK(result.decode.step_s.empty());
  CHECK(result.decode.tokens_per_s() == 0);
}

TEST_CASE("A token that ends the text stops it and is not part of it") {
  OneUnit unit;
  const auto free_run = unit.run(options_of(8, 16));
  GenerateOptions options = options_of(8, 16);
  options.is_end = [&](int32_t token) { return token == free_run.tokens[3]; };
  const auto stopped = unit.run(options);
  CHECK(stopped.tokens.size() <= 3);
  CHECK(std::equal(stopped.tokens.begin(), stopped.tokens.end(), free_run.tokens.begin()));
}

TEST_CASE("The chooser decides, and every token is handed on as it comes") {
  OneUnit unit;
  std::vector<int32_t> seen;
  GenerateOptions options = options_of(4, 16);
  options.choose = [](std::span<const float> logits) {
    return static_cast<int32_t>(logits.size()) - 1;
  };
  options.on_token = [&](int32_t token) { seen.push_back(token); };
  const auto result = unit.run(options);
  CHECK(result.tokens == std::vector<int32_t>(4, 511));  // the vocabulary has 512
  CHECK(seen == result.tokens);
}

TEST_CASE("One token behind a filled cache is decoding") {
  OneUnit unit;
  unit.executor->set_context(0);
  unit.executor->set_context(20);
  const std::vector<int32_t> token{5};
  const auto result = generate(*unit.executor, token, options_of(4, 16));
  CHECK(result.prefill.step_s.empty());
  CHECK(result.decode.step_s.size() == 4);
  CHECK(unit.executor->context() == 24);
}

}  // namespace
}  // namespace tandem
