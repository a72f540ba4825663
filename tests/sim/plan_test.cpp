#include "sim/plan.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;

namespace {

/// What check_plan says of the small model's even plan after `change`.
template <typename Change>
std::string message(Change change) {
  const ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  change(plan);
  try {
    check_plan(plan, model, "p.yaml");
  } catch (const Error& error) {
    return error.what();
  }
  return "legal";
}

template <typename Change>
std::string layer_message(Change change) {
  return message([&](Plan& plan) { change(plan.phases[0].layers[0]); });
}

std::string attention_message(std::vector<AttentionPart> parts) {
  return layer_message([&](LayerPlan& layer) { layer.attention = parts; });
}

/// Attention of a second phase with the even plan in the first.
std::string second_phase_message(std::vector<AttentionPart> parts) {
  return message([&](Plan& plan) {
    plan.phases.push_back(plan.phases[0]);
    plan.phases[1].layers[0].attention = parts;
  });
}

}  // namespace

TEST_CASE("plans of one unit and of two even units are legal") {
  const ModelSpec model = small_model();
  CHECK_NOTHROW(check_plan(single_unit_plan(model, {"cpu0", "cpu1"}, 1), model, "p.yaml"));
  CHECK_NOTHROW(check_plan(two_unit_plan(model), model, "p.yaml"));
}

TEST_CASE("a plan's units are known, distinct and at least one") {
  CHECK(message([](Plan& p) { p.units.clear(); }) == "p.yaml: there are 0 units; expected 1 to 32");
  CHECK(message([](Plan& p) { p.units[1] = "cpu0"; }) ==
        "p.yaml: unit cpu0 is listed twice; expected distinct names");
  CHECK(message([](Plan& p) { p.embedding = 2; }) ==
        "p.yaml: embedding: unit 2 is not one of the plan's 2 units");
  CHECK(layer_message([](LayerPlan& l) { l.out[1].unit = 7; }) ==
        "p.yaml: layers 0-1: out: unit 7 is not one of the plan's 2 units");
}

TEST_CASE("columns of a split are disjoint, ascending, covering and aligned") {
  CHECK(layer_message([](LayerPlan& l) { l.out = cut(64, 40); }) ==
        "p.yaml: layers 0-1: out: columns [0, 40) of cpu0 are not cut on a multiple of 16");
  CHECK(layer_message([](LayerPlan& l) { l.down[1].columns.begin = 16; }) ==
        "p.yaml: layers 0-1: down: columns [16, 64) of cpu1 do not continue at 32; expected "
        "disjoint, ascending ranges that cover [0, 64)");
  CHECK(layer_message([](LayerPlan& l) { l.gate_up.pop_back(); }) ==
        "p.yaml: layers 0-1: gate_up: columns end at 64; expected all 128");
  CHECK(message([](Plan& p) {
          p.phases[0].lm_head[1].columns.end = 176;
        }).find("lm_head: columns [80, 176)") != std::string::npos);
  // 48 is a multiple of 16, but not of a kv head's 32 columns.
  CHECK(layer_message([](LayerPlan& l) { l.qkv = cut(128, 48); }) ==
        "p.yaml: layers 0-1: qkv: columns [0, 48) of cpu0 are not cut on a multiple of 32");
}

TEST_CASE("only the last columns may be ragged, and a share may be empty") {
  ModelSpec model = small_model();
  model.vocab_size = 165;
  Plan plan = two_unit_plan(model);
  plan.phases[0].lm_head = cut(165, 80);
  CHECK_NOTHROW(check_plan(plan, model, "p.yaml"));
  plan.phases[0].lm_head = cut(165, 165);
  CHECK_NOTHROW(check_plan(plan, model, "p.yaml"));
}

TEST_CASE("every position of a head is on one unit") {
  CHECK(attention_message({{0, {0, 4}, kAll, true}, {1, {3, 4}, {512, kOpenEnd}, false}}) ==
        "p.yaml: layers 0-1: attention: kv head 3 at position 512 is on cpu0 and cpu1");
  CHECK(attention_message({{0, {0, 4}, {0, 512}, true}, {1, {0, 3}, {512, kOpenEnd}, false}}) ==
        "p.yaml: layers 0-1: attention: kv head 3 at position 512 is on no unit; expected one");
  CHECK(attention_message({{0, {0, 4}, {256, kOpenEnd}, true}}) ==
        "p.yaml: layers 0-1: attention: kv head 0 at position 0 is on no unit; expected one");
  CHECK(attention_message({{0, {0, 4}, {0, 512}, true}, {1, {0, 4}, {512, kOpenEnd}, false}}) ==
        "legal");
}

TEST_CASE("new tokens of a head are on one unit") {
  CHECK(attention_message({{0, {0, 4}, kAll, true}, {1, {1, 2}, {}, true}}) ==
        "p.yaml: layers 0-1: attention: new tokens of kv head 1 are on cpu0 and cpu1");
  CHECK(attention_message({{0, {0, 4}, kAll, false}, {1, {0, 3}, {}, true}}) ==
        "p.yaml: layers 0-1: attention: new tokens of kv head 3 are on no unit; expected one");
  CHECK(attention_message({{0, {0, 4}, kAll, false}, {1, {0, 4}, {}, true}}) == "legal");
}

TEST_CASE("an attention part has heads, work and a context cut on chunks") {
  CHECK(attention_message({{0, {0, 5}, kAll, true}}) ==
        "p.yaml: layers 0-1: attention: kv heads [0, 5) of cpu0; expected some of [0, 4)");
  CHECK(attention_message({{0, {0, 4}, {}, false}}) ==
        "p.yaml: layers 0-1: attention: kv heads 0-3 of cpu0 have neither context nor new tokens");
  CHECK(attention_message({{0, {0, 4}, {0, 300}, true}}) ==
        "p.yaml: layers 0-1: attention: context [0, 300) of cpu0 is not cut on a multiple of 256");
}

TEST_CASE("layers of a phase follow each other and are all there") {
  CHECK(layer_message([](LayerPlan& l) {
          l.layers = {0, 1};
        }) == "p.yaml: layers end at 1; expected all 2 layers of small");
  CHECK(layer_message([](LayerPlan& l) {
          l.layers = {1, 2};
        }).find("layers [1, 2)") != std::string::npos);
}

TEST_CASE("a phase holds steps") {
  CHECK(message([](Plan& p) { p.phases.clear(); }) ==
        "p.yaml: there are no phases; expected at least one");
  CHECK(message([](Plan& p) {
          p.phases[0].tokens = {0, 4};
        }) == "p.yaml: tokens [0, 4) hold no step; expected a range from 1 up");
  CHECK(message([](Plan& p) {
          p.phases[0].context = {4, 4};
        }) == "p.yaml: context [4, 4) holds no step; expected a range from 0 up");
}

TEST_CASE("keys and values do not move between phases") {
  CHECK(second_phase_message({{0, {0, 1}, kAll, true}, {1, {1, 4}, kAll, true}}) ==
        "p.yaml: phase 2: layers 0-1: attention: kv head 1 at position 0 is on cpu1, but on cpu0 "
        "in phase 1; keys and values do not move");
  // The same heads in more parts, and new tokens elsewhere, leave every position where it is.
  CHECK(second_phase_message({{0, {0, 1}, kAll, true},
                              {0, {1, 2}, {0, 256}, false},
                              {0, {1, 2}, {256, kOpenEnd}, false},
                              {1, {1, 2}, {}, true},
                              {1, {2, 4}, kAll, true}}) == "legal");
}

TEST_CASE("a part of a later phase lies within one home of the first") {
  const ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  plan.phases.push_back(plan.phases[0]);
  // cpu0 holds an L of heads x positions, which is no rectangle.
  plan.phases[0].layers[0].attention = {{0, {0, 2}, {0, 256}, true},
                                        {0, {0, 1}, {256, kOpenEnd}, false},
                                        {1, {1, 2}, {256, kOpenEnd}, false},
                                        {1, {2, 4}, kAll, true}};
  plan.phases[1].layers[0].attention = {{0, {0, 1}, kAll, true},
                                        {0, {1, 2}, {0, 256}, true},
                                        {1, {1, 2}, {256, kOpenEnd}, false},
                                        {1, {2, 4}, kAll, true}};
  CHECK_THROWS_WITH_AS(check_plan(plan, model, "p"),
                       "p: phase 2: layers 0-1: attention: kv heads 0 at positions 0 and on of "
                       "cpu0 lie in several parts of phase 1; cut them as it does",
                       Error);
}

TEST_CASE("homes are the contexts of the first phase, joined where they make a rectangle") {
  const ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  plan.phases[0].layers[0].attention = {{0, {0, 1}, kAll, true},
                                        {0, {1, 2}, {0, 256}, true},
                                        {0, {1, 2}, {256, kOpenEnd}, false},
                                        {1, {2, 4}, kAll, false},
                                        {0, {2, 4}, {}, true}};
  const std::vector<KvHome> homes = kv_homes(plan, model);
  REQUIRE(homes.size() == 4);  // two per layer: the new tokens of heads 2-3 make none on cpu0
  for (size_t i = 0; i < homes.size(); ++i) {
    const bool first = i % 2 == 0;
    CHECK(homes[i].layer == static_cast<int64_t>(i / 2));
    CHECK(homes[i].unit == (first ? 0 : 1));
    CHECK(homes[i].kv_heads == (first ? Range{0, 2} : Range{2, 4}));
    CHECK(homes[i].positions == kAll);
  }
}

TEST_CASE("a step is of the first phase that holds its tokens and its context") {
  Plan plan = two_unit_plan(small_model());
  plan.phases.push_back(plan.phases[0]);
  plan.phases[0].tokens = {1, 17};
  plan.phases[0].context = {0, 1024};
  plan.phases[1].tokens = {1, 512};
  CHECK(&phase_for(plan, 16, 1023) == &plan.phases[0]);
  CHECK(&phase_for(plan, 17, 0) == &plan.phases[1]);
  CHECK(&phase_for(plan, 1, 1024) == &plan.phases[1]);
  CHECK_THROWS_WITH_AS(
      phase_for(plan, 512, 3),
      "plan: no phase is for a step of 512 tokens at context 3; add one that holds both", Error);
}

TEST_CASE("a unit may have a resident and a streamed share, the same columns in every phase") {
  const auto with_out = [](LinearSplit first, LinearSplit second) {
    return message([&](Plan& plan) {
      plan.phases.push_back(plan.phases[0]);
      plan.phases[0].tokens = {1, 16};
      plan.phases[1].tokens = {16, kOpenEnd};
      plan.phases[0].layers[0].out = first;
      plan.phases[1].layers[0].out = second;
    });
  };
  const Home streamed = Home::kStreamed;
  const LinearSplit both = {{0, {0, 16}}, {0, {16, 48}, streamed}, {1, {48, 64}}};
  CHECK(with_out(both, both) == "legal");
  CHECK(with_out(both, {{0, {0, 16}}, {0, {16, 64}, streamed}}) == "legal");
  CHECK(with_out(both, {{0, {0, 16}}, {1, {16, 64}, streamed}}) ==
        "p.yaml: phase 2: layers 0-1: out: columns [48, 64) of cpu1 are streamed, but resident in "
        "phase 1; a unit has a column in one home");
  CHECK(with_out(both, {{0, {0, 32}}, {1, {32, 64}}}) ==
        "p.yaml: phase 2: layers 0-1: out: columns [16, 32) of cpu0 are resident, but streamed in "
        "phase 1; a unit has a column in one home");
  CHECK(message([](Plan& plan) {
          plan.phases.push_back(plan.phases[0]);
          plan.phases[1].lm_head[1].home = Home::kStreamed;
        }) ==
        "p.yaml: phase 2: lm_head: columns [80, 160) of cpu1 are streamed, but resident in "
        "phase 1; a unit has a column in one home");
}

TEST_CASE("only a CUDA unit streams") {
  Plan plan = two_unit_plan(small_model());
  plan.phases[0].layers[0].down[1].home = Home::kStreamed;
  CHECK(streaming_units(plan) == 2);
  std::vector<Unit> units(2);
  units[0].name = "cpu0";
  units[1].name = "cpu1";
  CHECK_THROWS_WITH_AS(check_streaming_units(plan, units, "p.yaml"),
                       "p.yaml: layers 0-1: down: cpu1.streamed: cpu1 is a CPU unit, which "
                       "computes weights where they lie; expected a CUDA unit",
                       Error);
  units[1].kind = UnitKind::kCuda;
  CHECK_NOTHROW(check_streaming_units(plan, units, "p.yaml"));
}
