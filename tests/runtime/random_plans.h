// The master test on one mix of units: random legal plans change time, never results.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernel_set.h"
#include "runtime/executor.h"
#include "runtime/resident_columns.h"
#include "tests/goldens.h"
#include "tests/reference_model.h"
#include "tests/runtime/units_of_kinds.h"
#include "tuner/legal_plans.h"

namespace tandem {

/// Logits of every token of a prompt, taken in steps of `width` tokens; each step's argmax is that
/// of its last row.
inline std::vector<float> run_prompt(Executor& executor, const std::vector<int32_t>& tokens,
                                     int64_t width) {
  executor.set_context(0);
  std::vector<float> logits;
  const auto size = static_cast<int64_t>(tokens.size());
  for (int64_t at = 0; at < size; at += width) {
    const int64_t count = std::min(width, size - at);
    executor.run({.tokens = count, .context = at, .logits_rows = count, .parents = {}},
                 std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(count)));
    logits.insert(logits.end(), executor.logits().begin(), executor.logits().end());
    const auto last = executor.logits().last(executor.logits().size() / static_cast<size_t>(count));
    CHECK(executor.argmax() == std::ranges::max_element(last) - last.begin());
  }
  return logits;
}

inline const ExecutorOptions kSmall{.max_context = 512,
                                    .max_tokens = 512,
                                    .max_logits_rows = 512,
                                    .release_source = true,
                                    .progress = {}};

inline Plan with_kv(Plan plan, DType dtype) {
  plan.kv_dtype = dtype;
  return plan;
}
inline Plan with_f32_kv(Plan plan) { return with_kv(std::move(plan), DType::kF32); }

/// Where CUDA units are emulated, a longer prompt takes seconds.
inline constexpr size_t kMostEmulatedTokens = 64;

/// |a - b| / |b| over the rows that a golden holds, the last ones.
inline double error_of(const std::vector<float>& logits, const Golden& golden) {
  const std::span<const float> actual = std::span(logits).last(golden.logits.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - golden.logits[i], 2);
    norm += std::pow(static_cast<double>(golden.logits[i]), 2);
  }
  return std::sqrt(difference / norm);
}

/// Whether plans take several times as long here: sanitizers, an emulated CPU. Fewer are tried
/// then; every run tries others.
inline bool is_slow_here() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return std::getenv("TANDEM_TEST_LAUNCHER") != nullptr;
#endif
}

/// Whether CUDA units have kernels of its own for each of a model's dtypes: of all others one
/// template makes them.
inline bool has_common_dtypes(const ModelSpec& spec) {
  const std::set<DType> used = used_dtypes(spec);
  return std::all_of(used.begin(), used.end(), is_common);
}

/// One of the KV formats that round and that the model's heads can have.
inline DType random_kv(const ModelSpec& spec, std::mt19937_64& random) {
  for (;;) {
    const DType dtype = kKvFormats[random() % kKvFormats.size()];
    if (dtype != DType::kF32 && kv_format_problem(dtype, spec.head_dim).empty()) return dtype;
  }
}

/// Error that rounding keys and values makes in a golden's logits, in the reference.
inline double kv_error(const Golden& golden, const Model& model, DType dtype) {
  const reference::Matrix all = ReferenceModel(model, dtype).logits(golden.tokens);
  const int64_t rows = static_cast<int64_t>(golden.logits.size()) / model.spec.vocab_size;
  return relative_error(golden.logits, all.bottomRows(rows));
}

/// A golden's model and what its plans gave so far.
struct RandomPlans {
  const Golden& golden;
  std::mt19937_64& random;
  Model model = open_gguf(golden.model_path);
  std::string isa;                           ///< of CPU units
  DType kv = random_kv(model.spec, random);  ///< of half of the plans, f32 of the others
  double kv_error = tandem::kv_error(golden, model, kv);
  /// By kind and KV format; a CUDA unit in narrow steps.
  std::map<std::pair<char, DType>, std::vector<float>> alone = {};

  /// What is rounded differently (keys and values of activations that were rounded, too) is off by
  /// two independent errors at most.
  double tolerance(DType of) const {
    return golden.tolerance + (of == DType::kF32 ? 0 : 2 * kv_error);
  }
};

/// Runs random plans over units of these kinds, see units_of_kinds().
inline void check_random_plans(RandomPlans& test, const std::string& kinds) {
  std::mt19937_64& random = test.random;
  CAPTURE(test.golden.name);
  CAPTURE(test.isa);
  CAPTURE(kinds);
  const ModelSpec& spec = test.model.spec;
  const std::vector<Unit> units = units_of_kinds(kinds, test.isa);
  const bool cuda = cuda_units(units) != 0;
  ExecutorOptions options = kSmall;
  // Long prompts are there for cuts between positions.
  const bool brief = cuda && test.golden.tokens.size() > kMostEmulatedTokens;
  const int most_rounds = is_slow_here() ? 2 : 4;
  const int rounds = brief ? 1 : cuda ? most_rounds / 2 : most_rounds;
  const uint64_t first = brief || rounds > 1 ? 0 : random() % 2;
  const auto cuts_positions = [&](int round) {
    return brief || (first + static_cast<uint64_t>(round)) % 2 == 1;
  };
  for (int round = 0; round < rounds; ++round)
    options.other_plans.push_back(with_kv(random_plan(spec, names_of(units), random,
                                                      {.positions = cuts_positions(round),
                                                       .max_context = 300,
                                                       .can_stream = cuda_units(units)}),
                                          random() % 2 == 0 ? DType::kF32 : test.kv));
  const Plan even = with_f32_kv(even_plan(spec, names_of(units)));
  Executor executor(test.model, even, units, options);
  // Units of one kind add in one order; a CUDA unit's prefill is a library's.
  const bool one_kind = kinds.find_first_not_of(kinds[0]) == std::string::npos;
  for (int round = 0; round < rounds; ++round) {
    const Plan& plan = options.other_plans[static_cast<size_t>(round)];
    CAPTURE(name(plan.kv_dtype));
    executor.set_plan(plan);
    const int64_t narrow = cuda ? 16 : 1 + static_cast<int64_t>(random() % 16);
    const int64_t width = cuda || round >= rounds / 2 ? narrow : 512;
    const std::vector<float> logits = run_prompt(executor, test.golden.tokens, width);
    CHECK(error_of(logits, test.golden) < test.tolerance(plan.kv_dtype));
    if (cuts_positions(round) || !one_kind) continue;
    const auto [expected, is_first] = test.alone.try_emplace({kinds[0], plan.kv_dtype}, logits);
    if (!is_first) CHECK(logits == expected->second);
  }
  const std::vector<float> prefill = run_prompt(executor, test.golden.tokens, 512);
  CHECK(error_of(prefill, test.golden) < test.tolerance(options.other_plans.back().kv_dtype));
}

/// One of the instruction sets that run here.
inline std::string random_isa(std::mt19937_64& random) {
  return std::string(kernel_sets()[random() % kernel_sets().size()]->name);
}

}  // namespace tandem
