#include "runtime/executor.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>

#include "kernels/kernel_set.h"
#include "runtime/resident_columns.h"
#include "tests/goldens.h"
#include "tests/runtime/units_of_kinds.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

/// Machines to try a plan on: CPU units, and CUDA units alone, in pairs and beside CPU units, where
/// there are any.
std::vector<std::string> kind_mixes() {
  std::vector<std::string> mixes{"c", "cc", "ccc"};
  if (list_cuda_devices().empty()) {
    MESSAGE("no CUDA device here: CUDA units are skipped");
  } else {
    mixes.insert(mixes.end(), {"g", "gc", "gg", "cgg"});
  }
  return mixes;
}

/// Logits of every token of a prompt, taken in steps of `width` tokens.
std::vector<float> run_prompt(Executor& executor, const std::vector<int32_t>& tokens,
                              int64_t width) {
  executor.set_context(0);
  std::vector<float> logits;
  const auto size = static_cast<int64_t>(tokens.size());
  for (int64_t at = 0; at < size; at += width) {
    const int64_t count = std::min(width, size - at);
    executor.run({.tokens = count, .context = at, .logits_rows = count, .parents = {}},
                 std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(count)));
    logits.insert(logits.end(), executor.logits().begin(), executor.logits().end());
  }
  return logits;
}

const ExecutorOptions kSmall{.max_context = 512,
                             .max_tokens = 512,
                             .max_logits_rows = 512,
                             .release_source = true,
                             .resident_all = true,
                             .stream_all = true,
                             .progress = {}};

Plan with_f32_kv(Plan plan) {
  plan.kv_dtype = DType::kF32;
  return plan;
}

/// Where CUDA units are emulated, a long prompt takes seconds: one mix of units is enough for it.
constexpr size_t kMostEmulatedTokens = 64;

/// |a - b| / |b| over the rows that a golden holds, the last ones.
double error_of(const std::vector<float>& logits, const Golden& golden) {
  const std::span<const float> actual = std::span(logits).last(golden.logits.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - golden.logits[i], 2);
    norm += std::pow(static_cast<double>(golden.logits[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("one unit reproduces every golden with every instruction set") {
  for (const Golden& golden : read_goldens())
    for (const KernelSet* set : kernel_sets()) {
      const Model model = open_gguf(golden.model_path);
      const std::vector<Unit> units = units_of_kinds("c", std::string(set->name));
      Executor executor(model, with_f32_kv(single_unit_plan(model.spec, names_of(units), 0)), units,
                        kSmall);
      const std::vector<float> logits = run_prompt(executor, golden.tokens, 512);
      CAPTURE(golden.name);
      CAPTURE(set->name);
      CHECK(error_of(logits, golden) < golden.tolerance);
    }
}

TEST_CASE("random legal plans change time, never results") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  for (const Golden& golden : read_goldens()) {
    const Model model = open_gguf(golden.model_path);
    const std::string isa(kernel_sets()[random() % kernel_sets().size()]->name);
    CAPTURE(golden.name);
    CAPTURE(isa);
    CAPTURE(seed);
    std::map<char, std::vector<float>> alone;  // by kind; a CUDA unit in narrow steps
    for (const std::string& kinds : kind_mixes()) {
      CAPTURE(kinds);
      const bool cuda = kinds.find('g') != std::string::npos;
      if (cuda && golden.tokens.size() > kMostEmulatedTokens && kinds != "gc") continue;
      const std::vector<Unit> units = units_of_kinds(kinds, isa);
      Executor executor(model, with_f32_kv(even_plan(model.spec, names_of(units))), units, kSmall);
      // Units of one kind add in one order; a CUDA unit's prefill is a library's.
      const bool one_kind = kinds.find_first_not_of(kinds[0]) == std::string::npos;
      for (int round = 0; round < (cuda ? 2 : 4); ++round) {
        const bool positions = round % 2 == 1;
        const Plan plan = random_plan(
            model.spec, names_of(units), random,
            {.positions = positions, .max_context = 300, .can_stream = cuda_units(units)});
        executor.set_plan(with_f32_kv(plan));
        const int64_t width =
            round < 2 ? (cuda ? 16 : 512) : 1 + static_cast<int64_t>(random() % 16);
        const std::vector<float> logits = run_prompt(executor, golden.tokens, width);
        CHECK(error_of(logits, golden) < golden.tolerance);
        if (positions || !one_kind) continue;
        const auto [expected, is_first] = alone.try_emplace(kinds[0], logits);
        if (!is_first) CHECK(logits == expected->second);
      }
      const std::vector<float> prefill = run_prompt(executor, golden.tokens, 512);
      CHECK(error_of(prefill, golden) < golden.tolerance);
    }
  }
}

TEST_CASE("weights that are streamed wait in host memory, and give the bits of resident ones") {
  if (list_cuda_devices().empty()) return;
  const Golden golden = read_goldens().front();
  const Model model = open_gguf(golden.model_path);
  const std::vector<Unit> units = units_of_kinds("g");
  ExecutorOptions options = kSmall;
  options.resident_all = options.stream_all = false;
  const Plan resident = with_f32_kv(single_unit_plan(model.spec, names_of(units), 0));
  Plan streamed = resident;
  LayerPlan& layer = streamed.phases[0].layers[0];
  for (LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
    split->front().home = Home::kStreamed;
  std::vector<std::vector<float>> logits;
  std::vector<MemoryUse> held;
  for (const Plan& plan : {resident, streamed}) {
    options.release_source = false;
    Executor executor(model, plan, units, options);
    logits.push_back(run_prompt(executor, golden.tokens, 16));
    held.push_back(executor.memory().front());
    const TaskGraph graph = executor.graph();
    const auto copies = std::count_if(graph.tasks.begin(), graph.tasks.end(),
                                      [](const Task& task) { return task.stage == Stage::kCopy; });
    CHECK((copies > 0) == (plan.phases == streamed.phases));
    executor.set_context(0);
    // A measured timeline has no spans for copies.
    const Step step{.tokens = 1, .context = 0, .logits_rows = 1, .parents = {}};
    CHECK(std::ssize(executor.run(step, std::span(golden.tokens).first(1)).spans) ==
          std::ssize(executor.graph().tasks) - copies);
  }
  CHECK(logits[0] == logits[1]);
  const int64_t streamed_bytes = held[1].host - held[0].host;
  CHECK(streamed_bytes + held[1].weights == held[0].weights);
  CHECK(streamed_bytes > held[1].weights);
}

}  // namespace tandem
