#include "tuner/legal_plans.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/tuner/tiny_model.h"
#include "tuner/shares.h"

using namespace tandem;

TEST_CASE("the even plan gives every unit as many columns and heads as the others") {
  const ModelSpec model = tiny_model({.kv_heads = 4, .layers = 2});  // hidden 64, intermediate 96
  const Plan plan = even_plan(model, {"a", "b"});
  check_plan(plan, model, "even");
  const LayerPlan& layer = plan.phases.front().layers.front();
  CHECK(layer.attention == std::vector<AttentionPart>{{0, {0, 2}, {0, kOpenEnd}, true},
                                                      {1, {2, 4}, {0, kOpenEnd}, true}});
  CHECK(layer.out == LinearSplit{{0, {0, 32}}, {1, {32, 64}}});
  CHECK(layer.gate_up == LinearSplit{{0, {0, 48}}, {1, {48, 96}}});
}

TEST_CASE("every random plan is legal, for one to four units and any number of heads") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 400; ++i) {
    const ModelSpec model = tiny_model({.kv_heads = 1 + i % 5, .layers = 1 + i % 4});
    std::vector<std::string> units = {"a", "b", "c", "d"};
    units.resize(static_cast<size_t>(1 + i % 4));
    CHECK_NOTHROW(check_plan(random_plan(model, units, random), model, "random"));
  }
}

TEST_CASE("the same generator state gives the same plan, and the next state another") {
  const ModelSpec model = tiny_model({.kv_heads = 4, .layers = 4});
  std::mt19937_64 a(3), b(3);
  const Plan first = random_plan(model, {"a", "b"}, a);
  CHECK(first.phases == random_plan(model, {"a", "b"}, b).phases);
  CHECK(first.phases != random_plan(model, {"a", "b"}, b).phases);
}

TEST_CASE("what an option forbids never occurs") {
  const ModelSpec model = tiny_model({.kv_heads = 4, .layers = 4});
  std::mt19937_64 random(11);
  const RandomPlanOptions columns_only{
      .heads = false, .positions = false, .layer_groups = false, .phases = false};
  for (int i = 0; i < 50; ++i) {
    const Plan plan = random_plan(model, {"a", "b"}, random, columns_only);
    REQUIRE(plan.phases.size() == 1);
    REQUIRE(plan.phases.front().layers.size() == 1);
    CHECK(plan.phases.front().layers.front().attention ==
          std::vector<AttentionPart>{{0, {0, 4}, {0, kOpenEnd}, true}});
  }
  const RandomPlanOptions heads_only{
      .columns = false, .positions = false, .layer_groups = false, .phases = false};
  for (int i = 0; i < 50; ++i) {
    const LayerPlan layer =
        random_plan(model, {"a", "b"}, random, heads_only).phases.front().layers.front();
    CHECK(layer.down == LinearSplit{{0, {0, 64}}});
    for (const AttentionPart& part : layer.attention) CHECK(part.context == Range{0, kOpenEnd});
  }
}

TEST_CASE("random plans show everything a plan can say") {
  const ModelSpec model = tiny_model({.kv_heads = 4, .layers = 4});
  std::mt19937_64 random(5);
  int cut = 0, apart = 0, phases = 0, groups = 0, own_qkv = 0, left_out = 0;
  for (int i = 0; i < 200; ++i) {
    const Plan plan = random_plan(model, {"a", "b", "c"}, random);
    phases += plan.phases.size() > 1;
    groups += plan.phases.front().layers.size() > 1;
    const LayerPlan& layer = plan.phases.front().layers.front();
    left_out += layer.out.size() < 3;
    own_qkv += layer.qkv != qkv_of_heads(model, layer.attention);
    for (const AttentionPart& part : layer.attention) {
      cut += part.context.begin > 0;
      apart += part.context.empty();
    }
  }
  for (const int seen : {cut, apart, phases, groups, own_qkv, left_out}) CHECK(seen > 10);
}

TEST_CASE("random plans stream on the units that can, legally, and show both homes") {
  const ModelSpec model = tiny_model({.kv_heads = 4, .layers = 4});
  std::mt19937_64 random(6);
  int resident = 0, streamed = 0, streamed_qkv = 0, streamed_head = 0;
  for (int i = 0; i < 200; ++i) {
    const Plan plan = random_plan(model, {"a", "b"}, random, {.can_stream = 2});
    CHECK_NOTHROW(check_plan(plan, model, "random"));
    CHECK((streaming_units(plan) & 1) == 0);
    const LayerPlan& layer = plan.phases.front().layers.front();
    const auto streams = [](const ColumnShare& share) { return share.home == Home::kStreamed; };
    for (const ColumnShare& share : layer.gate_up)
      if (share.unit == 1) (streams(share) ? streamed : resident) += 1;
    streamed_qkv += std::any_of(layer.qkv.begin(), layer.qkv.end(), streams);
    const LinearSplit& lm_head = plan.phases.front().lm_head;
    streamed_head += std::any_of(lm_head.begin(), lm_head.end(), streams);
  }
  for (const int seen : {resident, streamed, streamed_qkv, streamed_head}) CHECK(seen > 10);
}
