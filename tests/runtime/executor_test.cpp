#include "runtime/executor.h"

#include <algorithm>
#include <cstdlib>

#include "tests/runtime/random_plans.h"

namespace tandem {
namespace {

/// A race needs no long prompt to show, nor all models; tsan takes minutes for them.
#ifdef __SANITIZE_THREAD__
constexpr bool kThreadsAlone = true;
#else
constexpr bool kThreadsAlone = false;
#endif
constexpr bool kLongPrompts = !kThreadsAlone;
/// Of so many goldens one is tried in a run, drawn at random.
size_t golden_step() { return kThreadsAlone ? 3 : is_slow_here() ? 2 : 1; }

/// Machines to try a plan on: CPU units, and CUDA units alone, in pairs and beside CPU units, where
/// there are any. TANDEM_TEST_MIX names the only one: compute-sanitizer has no time for more.
std::vector<std::string> kind_mixes() {
  if (const char* only = std::getenv("TANDEM_TEST_MIX")) return {only};
  std::vector<std::string> mixes{"c", "cc", "ccc"};
  if (list_cuda_devices().empty()) {
    MESSAGE("no CUDA device here: CUDA units are skipped");
  } else {
    mixes.insert(mixes.end(), {"g", "gc", "gg", "cgg"});
  }
  return mixes;
}

/// All of them, but of those with CUDA units only as many as there is time for, drawn at random: of
/// rarer dtypes each takes a second.
std::vector<std::string> kind_mixes_for(const ModelSpec& spec, std::mt19937_64& random) {
  std::vector<std::string> mixes = kind_mixes();
  const auto cuda = std::ranges::find_if(
      mixes, [](const std::string& kinds) { return kinds.find('g') != std::string::npos; });
  std::shuffle(cuda, mixes.end(), random);
  const ptrdiff_t most = !has_common_dtypes(spec) ? 1 : is_slow_here() ? 2 : 4;
  if (mixes.end() - cuda > most) mixes.erase(cuda + most, mixes.end());
  return mixes;
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

TEST_CASE("one unit rounds keys and values as the reference does, in every KV format") {
  for (const Golden& golden : read_goldens()) {
    const Model model = open_gguf(golden.model_path);
    // Where activations are not rounded, nearly no key or value is rounded the other way.
    const std::set<DType> used = used_dtypes(model.spec);
    if (!std::ranges::all_of(used, [](DType d) { return d == DType::kF32 || d == DType::kF16; }))
      continue;
    const int64_t rows = static_cast<int64_t>(golden.logits.size()) / model.spec.vocab_size;
    for (const DType kv : kKvFormats) {
      if (kv == DType::kF32 || !kv_format_problem(kv, model.spec.head_dim).empty()) continue;
      const reference::Matrix exact = ReferenceModel(model, kv).logits(golden.tokens);
      const double rounding = kv_error(golden, model, kv);
      for (const KernelSet* set : kernel_sets()) {
        CAPTURE(golden.name);
        CAPTURE(name(kv));
        CAPTURE(set->name);
        const std::vector<Unit> units = units_of_kinds("c", std::string(set->name));
        const Plan plan = with_kv(single_unit_plan(model.spec, names_of(units), 0), kv);
        Executor executor(model, plan, units, kSmall);
        const std::vector<float> logits = run_prompt(executor, golden.tokens, 512);
        const auto last = std::span(logits).last(golden.logits.size());
        CHECK(rounding > 0);
        CHECK(relative_error(last, exact.bottomRows(rows)) < rounding / 4);
      }
    }
  }
}

TEST_CASE("random legal plans change time, never results") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const std::vector<Golden> goldens = read_goldens();
  const size_t step = golden_step();
  for (size_t i = random() % step; i < goldens.size(); i += step) {
    const Golden& golden = goldens[i];
    RandomPlans test{.golden = golden, .random = random, .isa = random_isa(random)};
    for (const std::string& kinds : kind_mixes_for(test.model.spec, random)) {
      const bool cuda = kinds.find('g') != std::string::npos;
      const bool is_long = golden.tokens.size() > kMostEmulatedTokens;
      if (cuda && is_long && (kinds != "gc" || !kLongPrompts)) continue;
      check_random_plans(test, kinds);
    }
  }
}

TEST_CASE("of a tree of tokens the path that a sampler accepts goes on as if it had been a chain") {
  const Golden golden = read_goldens().front();
  const Model model = open_gguf(golden.model_path);
  std::mt19937_64 random(std::random_device{}());
  for (const std::string& kinds : kind_mixes()) {
    const DType kv = kKvFormats[random() % kKvFormats.size()];
    CAPTURE(kinds);
    CAPTURE(name(kv));
    const std::vector<Unit> units = units_of_kinds(kinds);
    Executor executor(model, with_kv(even_plan(model.spec, names_of(units)), kv), units, kSmall);
    const auto run = [&](const std::vector<int32_t>& ids, const std::vector<int32_t>& parents = {},
                         const Sampler& sampler = {}) {
      const auto count = std::ssize(ids);
      executor.run({.tokens = count,
                    .context = executor.context(),
                    .logits_rows = count,
                    .parents = parents},
                   ids, sampler);
      const auto last = executor.logits().last(executor.logits().size() / ids.size());
      return std::vector<float>(last.begin(), last.end());
    };
    run({1, 2, 3});
    std::vector<float> seen;
    const auto accept = [&](std::span<const float> logits, int64_t rows) {
      CHECK(rows == 4);
      seen.assign(logits.begin(), logits.end());
      return std::vector<int32_t>{0, 2, 3};
    };
    const std::vector<float> last_of_tree = run({5, 6, 7, 8}, {-1, 0, 0, 2}, accept);
    CHECK(std::ranges::equal(seen, executor.logits()));
    CHECK(executor.context() == 6);
    const std::vector<float> after_tree = run({9});
    executor.set_context(3);
    CHECK(run({5, 7, 8}) == last_of_tree);
    CHECK(run({9}) == after_tree);
  }
}

TEST_CASE("weights that are streamed wait in host memory, and give the bits of resident ones") {
  if (list_cuda_devices().empty()) return;
  const Golden golden = read_goldens().front();
  const Model model = open_gguf(golden.model_path);
  const std::vector<Unit> units = units_of_kinds("g");
  ExecutorOptions options = kSmall;
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
  // Without spans the unit stamps its last task alone, and computes the same.
  options.spans = false;
  Executor untraced(model, streamed, units, options);
  CHECK(run_prompt(untraced, golden.tokens, 16) == logits[1]);
  untraced.set_context(0);
  const Timeline& timeline =
      untraced.run({.tokens = 1, .context = 0, .logits_rows = 1, .parents = {}},
                   std::span(golden.tokens).first(1));
  CHECK(timeline.makespan_s > 0);
  CHECK(timeline.spans.size() < 5);  // embedding, the last of the device's, sampling
  CHECK(logits[0] == logits[1]);
  const int64_t streamed_bytes = held[1].host - held[0].host;
  CHECK(streamed_bytes + held[1].weights == held[0].weights);
  CHECK(streamed_bytes > held[1].weights);
}

}  // namespace tandem
