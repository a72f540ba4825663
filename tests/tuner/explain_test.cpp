#include "tuner/explain.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/error.h"
#include "tests/sim/fixtures.h"

namespace tandem {
namespace {

using fixtures::small_model;
using fixtures::two_unit_plan;

constexpr int64_t kContext = 512;

Step decode_step() {
  Step step;
  step.context = kContext;
  return step;
}

const ExplainedOp& find_op(const Explanation& explained, Stage stage, int unit) {
  const auto at =
      std::find_if(explained.ops.begin(), explained.ops.end(),
                   [&](const ExplainedOp& op) { return op.stage == stage && op.unit == unit; });
  REQUIRE(at != explained.ops.end());
  return *at;
}

TEST_CASE("Share, columns and bytes of an op are those of its tasks in all layers") {
  const ModelSpec model = small_model();
  const Explanation explained = explain(model, two_unit_plan(model), decode_step(), nullptr);
  const ExplainedOp& out = find_op(explained, Stage::kOut, 1);
  CHECK(out.layers == Range{0, 2});
  CHECK(out.what == "[32,64)");
  CHECK(out.share == 0.5);
  CHECK(out.tasks == 2);
  CHECK(out.bytes == 2 * 32 * 64 * 4);  // layers x columns x q_size x f32
  CHECK(out.bound.empty());
  CHECK_FALSE(explained.makespan_s.has_value());
}

TEST_CASE("An attention part is told by its heads, positions and new tokens") {
  const ModelSpec model = small_model();
  const Explanation explained = explain(model, two_unit_plan(model), decode_step(), nullptr);
  const ExplainedOp& part = find_op(explained, Stage::kAttention, 1);
  CHECK(part.what == "heads [2,4), context [0,), new");
  CHECK(part.share == 0.5);
}

TEST_CASE("The bytes of units add up to what one token reads") {
  const ModelSpec model = small_model();
  const Explanation explained = explain(model, two_unit_plan(model), decode_step(), nullptr);
  double sum = 0;
  for (const ExplainedOp& op : explained.ops) sum += op.bytes;
  CHECK(explained.bytes_of_unit[0] + explained.bytes_of_unit[1] == sum);
}

TEST_CASE("With a machine every op has a time and what bounds it") {
  const ModelSpec model = small_model();
  const MachineProfile machine =
      fixtures::machine_of({fixtures::reader("cpu0", 1e9), fixtures::reader("cpu1", 1e9)});
  const Explanation explained = explain(model, two_unit_plan(model), decode_step(), &machine);
  REQUIRE(explained.makespan_s.has_value());
  CHECK(*explained.makespan_s > 0);
  const ExplainedOp& out = find_op(explained, Stage::kOut, 0);
  CHECK(out.bound == "memory dram0");
  // 16384 bytes at 1e9 bytes/s; the units' sum is the capacity, so they do not slow each other.
  CHECK(out.seconds == doctest::Approx(16384e-9));
}

TEST_CASE("A machine without a unit of the plan is an error") {
  const ModelSpec model = small_model();
  const MachineProfile machine = fixtures::machine_of({fixtures::reader("cpu0", 1e9)});
  CHECK_THROWS_AS(explain(model, two_unit_plan(model), decode_step(), &machine), Error);
}

TEST_CASE("A phase is explained by the workload's step that it holds") {
  Plan plan = two_unit_plan(small_model());
  plan.workload = {.context = 1000, .tokens = 1, .prompt = 300};
  plan.phases.push_back(plan.phases[0]);
  plan.phases[0].tokens = {1, 16};
  plan.phases[1].tokens = {16, kOpenEnd};
  CHECK(typical_step(plan, plan.phases[0]).tokens == 1);
  CHECK(typical_step(plan, plan.phases[0]).context == 1000);
  CHECK(typical_step(plan, plan.phases[1]).tokens == 300);
  CHECK(typical_step(plan, plan.phases[1]).context == 0);
}

TEST_CASE("A streamed share has a row of its own, and its copies one") {
  const ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  plan.units = {"cpu0", "gpu0"};
  plan.phases[0].layers[0].out = {{0, {0, 32}}, {1, {32, 48}}, {1, {48, 64}, Home::kStreamed}};
  const MachineProfile machine = fixtures::machine_of(
      {fixtures::reader("cpu0", 1e9), fixtures::cuda_reader("gpu0", 1e9, 1e8)});
  const Explanation explained = explain(model, plan, decode_step(), &machine);
  const auto streamed = std::find_if(explained.ops.begin(), explained.ops.end(), [](auto& op) {
    return op.stage == Stage::kOut && op.home == Home::kStreamed;
  });
  REQUIRE(streamed != explained.ops.end());
  CHECK(streamed->what == "[48,64)");
  CHECK(streamed->share == 0.25);
  CHECK(streamed->tasks == 2);
  const ExplainedOp& copy = find_op(explained, Stage::kCopy, 1);
  CHECK(copy.bytes == 2 * 16 * 64 * 4);
  CHECK(copy.seconds == doctest::Approx(2 * 16 * 64 * 4 / 1e8));
  CHECK(copy.bound == "link");
  CHECK_FALSE(copy.share.has_value());
}

}  // namespace
}  // namespace tandem
