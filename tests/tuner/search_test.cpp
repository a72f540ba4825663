#include "tuner/search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "kernels/error.h"
#include "sim/residency.h"
#include "sim/simulate.h"
#include "tests/tuner/search_problem.h"
#include "tests/tuner/tiny_machine.h"
#include "tuner/legal_plans.h"
#include "tuner/search_space.h"
#include "tuner/shares.h"

using namespace tandem;

namespace {

double decode_s(const ModelSpec& model, const MachineProfile& machine, Plan plan,
                const Workload& workload) {
  plan.workload = workload;
  const CostModel cost(model, machine, plan);
  return simulate(lower(model, plan, decode_step(workload)), cost).makespan_s;
}

std::vector<LinearSplit> all_splits(int64_t columns) {
  std::vector<LinearSplit> splits = {{{0, {0, columns}}}, {{1, {0, columns}}}};
  for (int64_t cut = 16; cut < columns; cut += 16)
    splits.push_back({{0, {0, cut}}, {1, {cut, columns}}});
  return splits;
}

std::vector<std::vector<AttentionPart>> all_whole_heads(int64_t heads) {
  const Range all{0, kOpenEnd};
  std::vector<std::vector<AttentionPart>> parts = {{{0, {0, heads}, all, true}},
                                                   {{1, {0, heads}, all, true}}};
  for (int64_t cut = 1; cut < heads; ++cut)
    parts.push_back({{0, {0, cut}, all, true}, {1, {cut, heads}, all, true}});
  return parts;
}

/// The fastest decode step of all plans with whole heads in order of units, all layers alike.
double fastest_by_trying_all(const ModelSpec& model, const MachineProfile& machine,
                             const Workload& workload) {
  double fastest = 1e9;
  Plan plan = even_plan(model, {"a", "b"});
  plan.workload = workload;
  Phase& phase = plan.phases.front();
  LayerPlan& layer = phase.layers.front();
  const CostModel cost(model, machine, plan);
  for (const auto& parts : all_whole_heads(model.num_kv_heads))
    for (const auto& out : all_splits(model.hidden_size))
      for (const auto& gate_up : all_splits(model.intermediate_size))
        for (const auto& down : all_splits(model.hidden_size))
          for (const auto& lm_head : all_splits(model.vocab_size)) {
            layer.attention = parts;
            layer.qkv = qkv_of_heads(model, parts);
            layer.out = out, layer.gate_up = gate_up, layer.down = down, phase.lm_head = lm_head;
            for (plan.embedding = 0; plan.embedding < 2; ++plan.embedding)
              fastest = std::min(
                  fastest, simulate(lower(model, plan, decode_step(workload)), cost).makespan_s);
          }
  return fastest;
}

/// A machine of one memory that the units cannot both use fully, with costs that favour neither.
MachineProfile crowded_machine() {
  MachineProfile machine =
      tiny_machine({{"a", 8e9, 5e9, "dram", 3e-7}, {"b", 5e9, 3e9, "dram", 2e-7}}, 1e-7);
  machine.contention.push_back({{"a", "b"}, {9e9, 0.01}, {}, {1.05, 0}});
  return machine;
}

}  // namespace

TEST_CASE("units of speed 3 to 1 get three quarters and one quarter of everything") {
  const ModelSpec model = tiny_model(kDivisible);
  const MachineProfile machine = tiny_machine({{"a", 3e9}, {"b", 1e9}});
  const SearchResult result = search(model, machine, decode_only());
  check_plan(result.plan, model, "plan");
  const Phase& phase = result.plan.phases.front();
  const LayerPlan& layer = phase.layers.front();
  // 16 blocks of 16: 12 / 3 = 4 / 1. Heads: 3 / 3 = 1 / 1.
  CHECK(layer.out == LinearSplit{{0, {0, 192}}, {1, {192, 256}}});
  CHECK(layer.gate_up == LinearSplit{{0, {0, 768}}, {1, {768, 1024}}});
  CHECK(layer.down == LinearSplit{{0, {0, 192}}, {1, {192, 256}}});
  CHECK(phase.lm_head == LinearSplit{{0, {0, 1536}}, {1, {1536, 2048}}});
  CHECK(layer.attention == std::vector<AttentionPart>{{0, {0, 3}, {0, kOpenEnd}, true},
                                                      {1, {3, 4}, {0, kOpenEnd}, true}});
  // Four thirds of the faster unit's speed, but for embedding and sampling.
  CHECK(result.candidates[1].decode_step_s / result.candidates[0].decode_step_s ==
        doctest::Approx(4.0 / 3).epsilon(0.01));
  CHECK(result.verdict.starts_with("hybrid a+b, 1.33x a alone"));
  // Nothing is lost to hand-offs or contention here, so the plan meets the bound.
  CHECK(result.plan.predicted->gap >= 0);
  CHECK(result.plan.predicted->gap < 0.001);
}

TEST_CASE("a unit that does not pay for its hand-offs is left out, and the verdict says so") {
  const ModelSpec model = tiny_model(kDivisible);
  // b would save at most 1/101 of each stage's 0.1 to 2 ms, a hand-off costs 1 ms.
  const MachineProfile machine = tiny_machine({{"a", 1e9}, {"b", 1e7}}, 1e-3);
  const SearchResult result = search(model, machine, decode_only());
  CHECK(result.plan.units == std::vector<std::string>{"a"});
  CHECK(result.verdict.starts_with("a alone: the best division of the model is "));
  REQUIRE(result.candidates.size() == 4);
  CHECK(result.candidates[1].name == "a alone");
  CHECK(result.candidates[3].name == "even");
}

TEST_CASE("of three units the one that does not pay is left out of the plan") {
  const ModelSpec model = tiny_model(kDivisible);
  MachineProfile machine = tiny_machine({{"a", 3e9}, {"c", 1e6}, {"b", 1e9}});
  // Stages take 0.1 to 1 ms. Only c's hand-offs are slow.
  for (Link& link : machine.links)
    if (link.from == "c" || link.to == "c") link.latency_s.median = 1e-3;
  const SearchResult result = search(model, machine, decode_only());
  check_plan(result.plan, model, "plan");
  CHECK(result.plan.units == std::vector<std::string>{"a", "b"});
  CHECK(result.verdict.starts_with("hybrid a+b, "));
}

TEST_CASE("one unit needs no search") {
  const SearchResult result =
      search(tiny_model(kDivisible), tiny_machine({{"a", 1e9}}), decode_only());
  CHECK(result.verdict == "a alone: the only unit");
  CHECK(result.candidates.size() == 1);
  CHECK(result.plan.predicted->gap >= 0);
}

TEST_CASE("the plan is the fastest of all there are, but for hand-offs that overlap") {
  const ModelSpec model = tiny_model({.kv_heads = 2, .layers = 1});
  // Stages are chosen as if both units waited for each hand-off. Of the six exchanges (after
  // embedding, attention, out, gate_up, down and lm_head) a plan can hide at most all.
  constexpr double kExchanges = 6;
  for (const MachineProfile& machine :
       {tiny_machine({{"a", 3e9}, {"b", 2e9}}), crowded_machine(),
        tiny_machine({{"a", 4e9, 4e9, "", 1e-7}, {"b", 3e9, 3e9, "", 4e-7}}, 3e-7)}) {
    const SearchResult result = search(model, machine, decode_only());
    const double fastest = fastest_by_trying_all(model, machine, decode_only().workload);
    double planned = 1e9;
    for (const Candidate& candidate : result.candidates)
      planned = std::min(planned, candidate.decode_step_s);
    const double handoff_s = machine.links.front().latency_s.median;
    CHECK(planned <= fastest * 1.0001 + kExchanges * handoff_s);
    CHECK(result.plan.predicted->lower_bound_s <= fastest);
  }
}

TEST_CASE("prefill and decode get their own columns, but keys and values one home") {
  const ModelSpec model = tiny_model(kDivisible);
  // Decode 3 to 1, prefill 1 to 1.
  const MachineProfile machine = tiny_machine({{"a", 3e9, 2e7}, {"b", 1e9, 2e7}});
  SearchOptions options = decode_only(1024);
  options.workload.prompt = 64;
  const Plan plan = search(model, machine, options).plan;
  check_plan(plan, model, "plan");
  REQUIRE(plan.phases.size() == 2);
  CHECK(plan.phases[0].tokens == Range{1, 8});  // the geometric middle of 1 and 64
  CHECK(plan.phases[1].tokens == Range{8, kOpenEnd});
  CHECK(plan.phases[0].layers[0].gate_up == LinearSplit{{0, {0, 768}}, {1, {768, 1024}}});
  CHECK(plan.phases[1].layers[0].gate_up == LinearSplit{{0, {0, 512}}, {1, {512, 1024}}});
  CHECK(plan.phases[0].layers[0].attention == plan.phases[1].layers[0].attention);
  CHECK(plan.predicted->prefill_tokens_per_s.per_s > 0);
}

TEST_CASE("a head is cut by position where whole heads do not balance") {
  // One kv head and equal units: only a cut lets both attend 4096 positions.
  const ModelSpec model = tiny_model({.hidden = 256, .kv_heads = 1});
  const MachineProfile machine = tiny_machine({{"a", 1e9}, {"b", 1e9}});
  const Plan plan = search(model, machine, decode_only(4096)).plan;
  const auto& parts = plan.phases.front().layers.front().attention;
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].context.end == parts[1].context.begin);
  CHECK(parts[0].context.end > 1024);
  CHECK(parts[0].context.end < 3072);
}

TEST_CASE("no random plan is simulated below the bound") {
  std::mt19937_64 random(42);
  MachineProfile three = tiny_machine(
      {{"a", 8e9, 5e9, "dram", 1e-7}, {"b", 5e9, 3e9, "dram", 2e-7}, {"c", 6e9, 6e9, "far", 1e-7}},
      1e-7);
  three.contention.push_back({{"a", "b"}, {9e9, 0.01}, {}, {1, 0}});
  const std::vector<MachineProfile> machines = {crowded_machine(), three,
                                                tiny_machine({{"a", 3e9}, {"b", 1e9}})};
  for (const MachineProfile& machine : machines)
    for (const int64_t context : {0, 700}) {
      const ModelSpec model =
          tiny_model({.hidden = 128, .intermediate = 328, .kv_heads = 3, .vocab = 500});
      const SearchResult result = search(model, machine, decode_only(context));
      const double bound = result.plan.predicted->lower_bound_s;
      CHECK(bound > 0);
      std::vector<std::string> units;
      for (const UnitProfile& unit : machine.units) units.push_back(unit.unit.name);
      double fastest = 1e9;
      for (int i = 0; i < 100; ++i) {
        Plan plan = random_plan(model, units, random);
        plan.workload = decode_only(context).workload;
        fastest = std::min(fastest, decode_s(model, machine, plan, plan.workload));
      }
      CHECK(fastest >= bound);
      for (const Candidate& candidate : result.candidates) {
        CHECK(candidate.decode_step_s >= bound);
        CHECK(result.candidates[0].decode_step_s <= candidate.decode_step_s * 1.0001);
      }
      CHECK(result.candidates[0].decode_step_s <= fastest);
    }
}

TEST_CASE("the memory of a plan is its packed weights, caches and buffers") {
  const ModelSpec model = tiny_model({.kv_heads = 2, .layers = 3});  // group 2, head_dim 16
  Plan plan = even_plan(model, {"a", "b"});
  plan.workload = {.context = 300, .tokens = 1, .prompt = 0};
  const MachineProfile machine = tiny_machine({{"a"}, {"b"}});
  const auto memory = plan_memory(model, machine, plan);
  // A layer in floats: qkv 128 x 64, out and down 64 x 64 and 64 x 96, gate and up 2 x 96 x 64;
  // half each. lm_head has 7 blocks of 16, 4 of them a's, who also has the embedding of 112 x 64.
  const int64_t half_layer = 4 * (128 * 64 + 64 * 64 + 64 * 96 + 2 * 96 * 64) / 2;
  CHECK(memory[0].weights == 3 * half_layer + 4 * 64 * 64 + 4 * 112 * 64);
  CHECK(memory[1].weights == 3 * half_layer + 4 * 48 * 64);
  // 512 positions hold 301; a head is K and V of 16 in f16, one head each in three layers.
  CHECK(memory[0].kv == 3 * 512 * 2 * 16 * 2);
  CHECK(memory[1].kv == memory[0].kv);
  // What units exchange lies with the first: residual stream 64, queries and attended heads 64
  // each, SwiGLU 96, RoPE 16, logits 112 floats; and 32 rows of keys and values, 2 heads in three
  // layers.
  CHECK(memory[0].workspace - memory[1].workspace ==
        4 * (64 + 2 * 64 + 96 + 16 + 112) + 3 * 2 * 32 * 2 * 16 * 2);
}

TEST_CASE("what stays in cache is decided for every plan, and the bound is under all of them") {
  std::mt19937_64 random(7);
  const ModelSpec model =
      tiny_model({.hidden = 256, .intermediate = 1000, .kv_heads = 4, .vocab = 2000});
  MachineProfile machine = tiny_machine({{"a", 3e9}, {"b", 1e9}});
  for (UnitProfile& unit : machine.units) {
    for (LinearCurve& curve : unit.linear) {
      curve.from_cache = curve.from_dram;
      for (CurvePoint& point : curve.from_cache.points) point.y.median /= 10;
    }
    unit.cache_read_per_s.median *= 10;
  }
  const SearchOptions options = decode_only();
  Plan even = even_plan(model, {"a", "b"});
  even.workload = options.workload;
  const std::vector<double> bytes = decode_bytes(model, even);
  // Each cache holds this share of what a step reads.
  for (const double share : {0.3, 0.6, 0.9, 1.1}) {
    CAPTURE(share);
    machine.machine.caches = {{3, static_cast<int64_t>(share * (bytes[0] + bytes[1]) / 0.7), 1}};
    const SearchResult result = search(model, machine, options);
    check_plan(result.plan, model, "plan");
    double fastest = 1e9;
    for (int i = 0; i < 300; ++i) {
      Plan plan = random_plan(model, {"a", "b"}, random, {.positions = false});
      fastest = std::min(fastest, decode_s(model, machine, plan, options.workload));
    }
    CHECK(result.plan.predicted->lower_bound_s <= fastest);
    CHECK(result.plan.predicted->gap >= 0);
    CHECK(1 / result.plan.predicted->decode_tokens_per_s.per_s <= fastest * 1.02);
  }
}

TEST_CASE("a unit that the machine lacks is named") {
  SearchOptions options = decode_only();
  options.units = {"gpu0"};
  CHECK_THROWS_WITH_AS(search(tiny_model(), tiny_machine({{"a"}}), options),
                       "unit gpu0 is not one of machine tiny: a", Error);
}

TEST_CASE("layers of other dtypes are decided apart, and dtypes without figures warned of") {
  ModelSpec model = tiny_model({.layers = 4});
  model.layers[1].down = model.layers[3].down = DType::kQ8_0;
  const SearchResult result = search(model, tiny_machine({{"a", 3e9}, {"b", 1e9}}), decode_only());
  check_plan(result.plan, model, "plan");
  CHECK(result.plan.phases.front().layers.size() == 4);
  REQUIRE_FALSE(result.warnings.empty());
  CHECK(result.warnings.front().starts_with("q8_0 was not measured on tiny"));
}
