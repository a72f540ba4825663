// What a plan says about memory is what an executor of it holds, and what is held suffices.
#include "runtime/memory_needs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

#include "profiles/topology.h"
#include "tests/runtime/memory_use_check.h"
#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"
#include "tuner/shares.h"

namespace tandem {
namespace {

using Names = std::vector<std::string>;

/// Units on the allowed cores in turn; `memories` names the memory of each.
std::vector<Unit> units_in(const Names& memories) {
  static const std::vector<int> cores = detect_machine().cores;
  std::vector<Unit> units;
  for (const std::string& memory : memories) {
    Unit& unit = units.emplace_back();
    unit.name = "u" + std::to_string(units.size() - 1);
    unit.memory = memory;
    unit.cores = {cores[units.size() % cores.size()]};
  }
  return units;
}

Names names(const std::vector<Unit>& units) {
  Names result;
  for (const Unit& unit : units) result.push_back(unit.name);
  return result;
}

/// Llama's and Qwen's proportions, and sizes that fill no panel.
ModelSpec llama() {
  return tiny_model({.hidden = 128,
                     .intermediate = 352,
                     .kv_heads = 2,
                     .group = 4,
                     .head_dim = 16,
                     .vocab = 500,
                     .dtype = DType::kQ4_0});
}
ModelSpec qwen() {
  ModelSpec spec = tiny_model({.hidden = 224,
                               .intermediate = 608,
                               .kv_heads = 1,
                               .group = 7,
                               .head_dim = 32,
                               .layers = 3,
                               .vocab = 750,
                               .dtype = DType::kQ8_0});
  spec.architecture = Architecture::kQwen2;
  spec.tied_embedding = true;
  return spec;
}
ModelSpec ragged() {
  return tiny_model({.hidden = 136,
                     .intermediate = 328,
                     .kv_heads = 5,
                     .group = 1,
                     .head_dim = 24,
                     .vocab = 501,
                     .dtype = DType::kF16});
}

ExecutorOptions options_of(int64_t prompt) {
  return options_for({.context = 300, .tokens = 2, .prompt = prompt});
}

std::vector<int32_t> tokens_of(const ModelSpec& spec, int64_t count) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>((7919 * i + 13) % spec.vocab_size));
  return tokens;
}

/// Logits of the last two rows of a prompt of 40 tokens, then of a decode step behind it.
std::vector<float> run_both_phases(Executor& executor, const ModelSpec& spec) {
  std::vector<float> logits;
  executor.set_context(0);
  for (const Step& step : {Step{.tokens = 40, .context = 0, .logits_rows = 2, .parents = {}},
                           Step{.tokens = 1, .context = 40, .logits_rows = 1, .parents = {}}}) {
    executor.run(step, tokens_of(spec, step.tokens));
    logits.insert(logits.end(), executor.logits().begin(), executor.logits().end());
  }
  return logits;
}

/// An executor holds what is counted, still does after its largest steps, and computes `expected`.
void check_plan_memory(const Model& model, const Plan& plan, const std::vector<Unit>& units,
                       const ExecutorOptions& options, const std::vector<float>* expected) {
  Executor executor(model, plan, units, options);
  const auto needed = memory_needs(model.spec, plan, units, options);
  check_equal(executor.memory(), needed);
  const std::vector<float> logits = run_both_phases(executor, model.spec);
  if (expected) CHECK(logits == *expected);
  executor.set_context(0);
  executor.run({.tokens = options.max_tokens, .context = 0, .logits_rows = 1, .parents = {}},
               tokens_of(model.spec, options.max_tokens));
  check_equal(executor.memory(), needed);
}

std::vector<float> logits_of_one_unit(const Model& model) {
  const std::vector<Unit> one = units_in({"dram"});
  Executor executor(model, single_unit_plan(model.spec, names(one), 0), one, options_of(48));
  return run_both_phases(executor, model.spec);
}

/// Packed bytes of every column once.
int64_t all_matrix_bytes(const ModelSpec& spec) {
  const Plan plan = single_unit_plan(spec, {"a"}, 0);
  return matrix_bytes(spec, {&plan, 1}, {0}).front();
}

int64_t sum_of_weights(const std::vector<MemoryUse>& uses) {
  return std::accumulate(uses.begin(), uses.end(), int64_t{0},
                         [](int64_t sum, const MemoryUse& use) { return sum + use.weights; });
}

/// `one` for steps of one token, `other` for wider ones.
Plan two_phases(Plan one, const Plan& other) {
  one.phases.push_back(other.phases.front());
  one.phases[0].tokens = {1, 2};
  one.phases[1].tokens = {2, kOpenEnd};
  one.phases[1].layers[0].attention = one.phases[0].layers[0].attention;
  return one;
}

OpShares shares(const std::vector<double>& heads, const std::vector<double>& columns) {
  return {heads, columns, columns, columns, columns};
}

}  // namespace

TEST_CASE("an executor holds what its plan needs, whatever the shape, the units and the prompt") {
  for (const ModelSpec& spec : {llama(), qwen(), ragged()}) {
    const Model model = synthesize_model(spec, 1);
    const std::vector<float> expected = logits_of_one_unit(model);
    for (const Names& memories :
         {Names{"a"}, Names{"a", "a"}, Names{"a", "b"}, Names{"a", "b", "a"}})
      for (const int64_t prompt : {48, 80}) {
        const std::vector<Unit> units = units_in(memories);
        Plan plan = even_plan(spec, names(units));
        plan.embedding = static_cast<int>(units.size()) - 1;
        CAPTURE(spec.vocab_size);
        CAPTURE(units.size());
        CAPTURE(prompt);
        check_plan_memory(model, plan, units, options_of(prompt), &expected);
      }
  }
}

TEST_CASE("random plans hold what they need, with every unit's columns and no one else's") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (const ModelSpec& spec : {ragged(), qwen()}) {
    const Model model = synthesize_model(spec, 2);
    const std::vector<float> expected = logits_of_one_unit(model);
    for (int round = 0; round < 12; ++round) {
      const std::vector<Unit> units =
          units_in(round % 3 == 0 ? Names{"a", "b"} : Names{"a", "b", round % 3 == 1 ? "a" : "b"});
      const bool positions = round % 2 == 1;
      const Plan plan =
          random_plan(spec, names(units), random, {.positions = positions, .max_context = 600});
      check_plan_memory(model, plan, units, options_of(round % 4 < 2 ? 48 : 80),
                        positions ? nullptr : &expected);
    }
  }
}

TEST_CASE("what lies between a memory's ranges is not held") {
  const ModelSpec spec = llama();
  const Model model = synthesize_model(spec, 1);
  const std::vector<Unit> units = units_in({"a", "b", "a"});
  const auto held = memory_needs(spec, even_plan(spec, names(units)), units, options_of(48));
  CHECK(sum_of_weights(held) == all_matrix_bytes(spec) + table_bytes(spec));
}

TEST_CASE("ranges that differ between phases are held where they overlap only once") {
  // Blocks of 16 of unit 1 in the middle of three: 1/4 to 1/2 of the columns in one phase, 5/8 to
  // 7/8 in the other. The hull would be 5/8 of them, the union is 1/2.
  const ModelSpec spec = tiny_model({.hidden = 256, .intermediate = 512, .vocab = 512});
  const Model model = synthesize_model(spec, 1);
  const std::vector<float> expected = logits_of_one_unit(model);
  const std::vector<Unit> units = units_in({"a", "b", "c"});
  const std::vector<double> heads{0, 1, 0};
  const Plan plan =
      two_phases(plan_by_shares(spec, names(units), shares(heads, {0.25, 0.25, 0.5})),
                 plan_by_shares(spec, names(units), shares(heads, {0.625, 0.25, 0.125})));
  check_plan_memory(model, plan, units, options_of(48), &expected);
  const auto needed = memory_needs(spec, plan, units, options_of(48));
  const int64_t qkv = 4 * spec.num_layers * qkv_columns(spec) * spec.hidden_size;
  CHECK(needed[1].weights == qkv + (all_matrix_bytes(spec) - qkv) / 2);
  CHECK(needed[0].weights == (all_matrix_bytes(spec) - qkv) * 5 / 8 + table_bytes(spec));
}

TEST_CASE("columns that units of one memory share are held once and counted with the first") {
  const ModelSpec spec = tiny_model({.hidden = 256, .intermediate = 512, .vocab = 512});
  const Model model = synthesize_model(spec, 1);
  const std::vector<Unit> units = units_in({"a", "a"});
  const std::vector<double> heads{1, 0};
  const Plan plan = two_phases(plan_by_shares(spec, names(units), shares(heads, {0.75, 0.25})),
                               plan_by_shares(spec, names(units), shares(heads, {0.25, 0.75})));
  const Executor executor(model, plan, units, options_of(48));
  const auto held = executor.memory();
  CHECK(sum_of_weights(held) == all_matrix_bytes(spec) + table_bytes(spec));
  const int64_t qkv = 4 * spec.num_layers * qkv_columns(spec) * spec.hidden_size;
  CHECK(held[1].weights == (all_matrix_bytes(spec) - qkv) / 4);
}

TEST_CASE("homes that are no rectangle are held cell by cell") {
  const ModelSpec spec = tiny_model();  // 2 kv heads of 16, 2 layers
  const Model model = synthesize_model(spec, 1);
  const std::vector<Unit> units = units_in({"a", "b"});
  Plan plan = even_plan(spec, names(units));
  plan.phases[0].layers[0].attention = {
      {0, {0, 1}, kAll, true}, {0, {1, 2}, {0, 256}, false}, {1, {1, 2}, {256, kOpenEnd}, true}};
  plan.phases[0].layers[0].qkv = qkv_of_heads(spec, plan.phases[0].layers[0].attention);
  const auto needed = memory_needs(spec, plan, units, options_of(512));
  // A cell is 16 keys and 16 values of 2 bytes.
  CHECK(needed[0].kv == spec.num_layers * (512 + 256) * 64);
  CHECK(needed[1].kv == spec.num_layers * 256 * 64);
  check_plan_memory(model, plan, units, options_of(512), nullptr);
}

TEST_CASE("a position takes what its KV format takes, in plans and in executors") {
  const ModelSpec spec = tiny_model({.head_dim = 32});  // 2 kv heads, 2 layers
  const Model model = synthesize_model(spec, 1);
  const std::vector<Unit> units = units_in({"a", "b"});
  Plan plan = even_plan(spec, names(units));
  for (const auto& [dtype, head_bytes] : {std::pair<DType, int64_t>{DType::kF32, 32 * 4},
                                          {DType::kF16, 32 * 2},
                                          {DType::kBF16, 32 * 2},
                                          {DType::kQ8_0, 32 + 2}}) {
    CAPTURE(name(dtype));
    plan.kv_dtype = dtype;
    const auto needed = memory_needs(spec, plan, units, options_of(512));
    // Keys and values of 512 positions of one head, of two layers.
    CHECK(needed[0].kv == spec.num_layers * 512 * 2 * head_bytes);
    CHECK(needed[1].kv == needed[0].kv);
    check_plan_memory(model, plan, units, options_of(512), nullptr);
  }
}

TEST_CASE("a tied head serves as the embedding only where all of it lies") {
  const ModelSpec spec = qwen();
  const Model model = synthesize_model(spec, 1);
  for (const Names& memories : {Names{"a", "a"}, Names{"a", "b"}}) {
    const std::vector<Unit> units = units_in(memories);
    const Plan plan = even_plan(spec, names(units));
    const int64_t beside = memories[0] == memories[1] ? 0 : table_bytes(spec);
    CHECK(embedding_bytes(spec, {&plan, 1}, units) == beside);
    const auto needed = memory_needs(spec, plan, units, options_of(48));
    CHECK(sum_of_weights(needed) == all_matrix_bytes(spec) + beside);
  }
  // The rows are there although the source was given back: other tokens have other logits.
  const std::vector<Unit> one = units_in({"a"});
  Executor executor(model, single_unit_plan(spec, names(one), 0), one, options_of(48));
  std::vector<std::vector<float>> logits;
  for (const int32_t token : {1, 2}) {
    executor.set_context(0);
    executor.run({.tokens = 1, .context = 0, .parents = {}}, {&token, 1});
    logits.emplace_back(executor.logits().begin(), executor.logits().end());
  }
  CHECK(logits[0] != logits[1]);
}

TEST_CASE("a memory holds what any of an executor's plans needs there") {
  const ModelSpec spec = ragged();
  const Model model = synthesize_model(spec, 1);
  const std::vector<Unit> units = units_in({"a", "b", "a"});
  const Plan first = single_unit_plan(spec, names(units), 0);
  ExecutorOptions options = options_of(48);
  const auto alone = memory_needs(spec, first, units, options);
  CHECK(alone[1].weights == 0);
  options.other_plans = {single_unit_plan(spec, names(units), 1),
                         single_unit_plan(spec, names(units), 2)};
  const auto needed = memory_needs(spec, first, units, options);
  CHECK(needed[0].weights == alone[0].weights);
  CHECK(needed[1].weights == all_matrix_bytes(spec));
  CHECK(needed[2].weights == 0);  // what the first unit of its memory has
  check_plan_memory(model, first, units, options, nullptr);
}

TEST_CASE("rows of the embedding are read from the head only where every plan can") {
  ModelSpec spec = tiny_model();
  spec.tied_embedding = true;
  spec.lm_head = spec.embedding;
  const std::vector<Unit> units = units_in({"a", "b"});
  const std::vector<Plan> plans{single_unit_plan(spec, names(units), 0),
                                even_plan(spec, names(units))};
  CHECK(embedding_bytes(spec, {plans.data(), 1}, units) == 0);
  CHECK(embedding_bytes(spec, {&plans[1], 1}, units) == table_bytes(spec));
  CHECK(embedding_bytes(spec, plans, units) == 0);  // the first brings the whole head
  const Plan other = single_unit_plan(spec, names(units), 1);
  const std::vector<Plan> elsewhere{plans[1], other};
  CHECK(embedding_bytes(spec, elsewhere, units) == table_bytes(spec));
}

TEST_CASE("a unit named several times in a split, and a ragged end, change no result") {
  const ModelSpec spec = ragged();
  const Model model = synthesize_model(spec, 3);
  const std::vector<float> expected = logits_of_one_unit(model);
  for (const Names& memories : {Names{"a", "b"}, Names{"a", "a"}}) {
    const std::vector<Unit> units = units_in(memories);
    Plan plan = single_unit_plan(spec, names(units), 0);
    Phase& phase = plan.phases.front();
    LayerPlan& layer = phase.layers.front();
    layer.attention = {{0, {0, 1}, kAll, true},
                       {1, {1, 3}, kAll, true},
                       {0, {3, 4}, kAll, true},
                       {1, {4, 5}, kAll, true}};
    layer.qkv = qkv_of_heads(spec, layer.attention);
    CHECK(layer.qkv.size() == 4);
    layer.out = layer.down = {{1, {0, 16}}, {0, {16, 64}}, {1, {64, 128}}, {1, {128, 136}}};
    layer.gate_up = {{0, {0, 160}}, {1, {160, 160}}, {1, {160, 320}}, {0, {320, 328}}};
    phase.lm_head = {{1, {0, 16}}, {0, {16, 32}}, {1, {32, 496}}, {0, {496, 501}}};
    check_plan(plan, spec, "plan");
    check_plan_memory(model, plan, units, options_of(48), &expected);
  }
}

TEST_CASE("streamed columns need host memory and slots, and none of the unit's for themselves") {
  const ModelSpec spec = tiny_model({.hidden = 256, .intermediate = 512, .vocab = 512});
  std::vector<Unit> units = units_in({"dram", "vram"});
  units[1].kind = UnitKind::kCuda;
  const Plan resident = single_unit_plan(spec, names(units), 1);
  Plan plan = resident;
  for (LayerPlan& layer : plan.phases[0].layers)
    layer.down = {{1, {0, 64}}, {1, {64, 256}, Home::kStreamed}};
  check_plan(plan, spec, "plan");
  const auto before = memory_needs(spec, resident, units, options_of(128));
  const auto needed = memory_needs(spec, plan, units, options_of(128));
  const int64_t streamed = 4 * spec.num_layers * 192 * 512;
  CHECK(needed[1].host == before[1].host + streamed);
  CHECK(needed[1].weights == before[1].weights - streamed);
  CHECK(needed[1].workspace == before[1].workspace + kStreamSlots * kStreamSlotBytes);
  CHECK(needed[0].host == before[0].host);
  ExecutorOptions both = options_of(128);
  both.other_plans = {resident};
  const auto held = memory_needs(spec, plan, units, both);
  CHECK(held[1].host == needed[1].host);
  CHECK(held[1].weights == before[1].weights);
}

}  // namespace tandem
