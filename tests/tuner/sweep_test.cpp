#include "tuner/sweep.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "tests/tuner/tiny_model.h"

namespace tandem {
namespace {

const std::vector<std::string> kTwo{"cpu0", "cpu1"};

const LayerPlan& first_layer(const NamedPlan& point) { return point.plan.phases[0].layers[0]; }

/// kv heads of a unit.
int64_t heads_of(const NamedPlan& point, int unit) {
  int64_t heads = 0;
  for (const AttentionPart& part : first_layer(point).attention)
    if (part.unit == unit) heads += part.kv_heads.size();
  return heads;
}

TEST_CASE("The column sweep goes from 0 to 100 % in steps of 5 %, and every plan is legal") {
  const ModelSpec model = tiny_model({.hidden = 320, .kv_heads = 4});
  const auto plans = column_sweep(model, kTwo);
  REQUIRE(plans.size() == 21);
  for (const NamedPlan& point : plans) CHECK_NOTHROW(check_plan(point.plan, model, point.label));
  CHECK(plans[0].label == "cpu0 0 %");
  CHECK(plans[13].label == "cpu0 65 %");
  CHECK(plans[20].label == "cpu0 100 %");
  // 320 columns in panels of 16 are 20 panels: one for each step of 5 %.
  CHECK(first_layer(plans[13]).out == LinearSplit{{0, {0, 208}}, {1, {208, 320}}});
  CHECK(first_layer(plans[0]).out == LinearSplit{{1, {0, 320}}});
  CHECK(first_layer(plans[20]).out == LinearSplit{{0, {0, 320}}});
  CHECK(heads_of(plans[10], 0) == 2);  // half of 4
}

TEST_CASE("With three units the others have equal parts of the rest") {
  const ModelSpec model = tiny_model({.hidden = 320});
  const auto plans = column_sweep(model, {"a", "b", "c"});
  // 60 % of 20 panels are 12; the other 8 are 4 and 4.
  CHECK(first_layer(plans[12]).out == LinearSplit{{0, {0, 192}}, {1, {192, 256}}, {2, {256, 320}}});
}

TEST_CASE("The head sweep moves whole heads and leaves the columns of its base alone") {
  const ModelSpec model = tiny_model({.kv_heads = 4});
  const Plan base = column_sweep(model, kTwo)[10].plan;
  const auto plans = head_sweep(model, base);
  REQUIRE(plans.size() == 5);
  for (int64_t heads = 0; heads <= 4; ++heads) {
    const NamedPlan& point = plans[static_cast<size_t>(heads)];
    CHECK_NOTHROW(check_plan(point.plan, model, point.label));
    CHECK(heads_of(point, 0) == heads);
    CHECK(heads_of(point, 1) == 4 - heads);
    CHECK(first_layer(point).down == base.phases[0].layers[0].down);
  }
}

TEST_CASE("Sweeps over one unit are refused") {
  const ModelSpec model = tiny_model();
  CHECK_THROWS_AS(column_sweep(model, {"cpu0"}), Error);
  CHECK_THROWS_AS(head_sweep(model, single_unit_plan(model, {"cpu0"}, 0)), Error);
}

TEST_CASE("Random plans are legal, seeded, and cut positions every other time") {
  const ModelSpec model = tiny_model({.kv_heads = 4});
  const auto plans = random_plans(model, kTwo, 6, 7, 1024);
  const auto again = random_plans(model, kTwo, 6, 7, 1024);
  REQUIRE(plans.size() == 6);
  for (size_t i = 0; i < plans.size(); ++i) {
    CHECK_NOTHROW(check_plan(plans[i].plan, model, plans[i].label));
    CHECK(plans[i].plan.phases == again[i].plan.phases);
    if (i % 2 == 0)
      for (const Phase& phase : plans[i].plan.phases)
        for (const LayerPlan& layer : phase.layers)
          for (const AttentionPart& part : layer.attention)
            CHECK(part.context == Range{0, kOpenEnd});
  }
}

TEST_CASE("Contexts double from 128 to 4096, within the model") {
  ModelSpec model = tiny_model();
  model.max_context = 600;
  std::vector<int64_t> contexts;
  for (const TrialShape& shape : context_sweep(model, 1)) contexts.push_back(shape.context);
  CHECK(contexts == std::vector<int64_t>{0, 128, 256, 512});
  model.max_context = 1 << 20;
  CHECK(context_sweep(model, 1).back().context == 4096);
}

TEST_CASE("Tokens double from 1 to 64, within the model") {
  ModelSpec model = tiny_model();
  CHECK(token_sweep(model, 0).size() == 7);
  model.max_context = 20;
  CHECK(token_sweep(model, 10).back().tokens == 8);  // 10 + 16 > 20
}

TEST_CASE("Every plan is tried with every shape") {
  const ModelSpec model = tiny_model();
  const auto plans = column_sweep(model, kTwo);
  const auto trials =
      make_trials(plans, {{TrialKind::kDecode, 1, 0}, {TrialKind::kPrefill, 64, 0}});
  REQUIRE(trials.size() == 42);
  CHECK(trials[0].plan == &plans[0].plan);
  CHECK(trials[41].kind == TrialKind::kPrefill);
  CHECK(trials[41].label == "cpu0 100 %");
}

}  // namespace
}  // namespace tandem
