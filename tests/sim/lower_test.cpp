#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "kernels/cuda_planes.h"
#include "kernels/error.h"
#include "sim/task_graph.h"
#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;

namespace {

Step step_of(int64_t tokens, int64_t context, int64_t logits_rows = 1) {
  return {.tokens = tokens, .context = context, .logits_rows = logits_rows, .parents = {}};
}

std::vector<Task> tasks_of(const TaskGraph& graph, Stage stage, int layer) {
  std::vector<Task> tasks;
  for (const Task& task : graph.tasks)
    if (task.stage == stage && task.layer == layer) tasks.push_back(task);
  return tasks;
}

Plan with_attention(const ModelSpec& model, std::vector<AttentionPart> parts) {
  Plan plan = two_unit_plan(model);
  plan.phases[0].layers[0].attention = std::move(parts);
  check_plan(plan, model, "test");
  return plan;
}

/// Plans that cut everything that can be cut.
std::vector<Plan> hand_written_plans(const ModelSpec& model) {
  const auto with = [&](std::vector<AttentionPart> parts) { return with_attention(model, parts); };
  Plan uneven = two_unit_plan(model);
  uneven.phases[0].layers.push_back(uneven.phases[0].layers[0]);
  uneven.phases[0].layers[0].layers = {0, 1};
  uneven.phases[0].layers[1].layers = {1, 2};
  uneven.phases[0].layers[1].down = cut(64, 0);
  uneven.phases[0].lm_head = cut(160, 160);
  return {single_unit_plan(model, {"cpu0", "cpu1"}, 1),
          two_unit_plan(model),
          uneven,
          with({{0, {0, 4}, kAll, false}, {1, {0, 4}, {}, true}}),
          with({{0, {0, 4}, {0, 256}, false},
                {1, {0, 2}, {256, kOpenEnd}, true},
                {0, {2, 4}, {256, kOpenEnd}, true}}),
          with({{0, {0, 3}, kAll, true},
                {0, {3, 4}, {0, 512}, true},
                {1, {3, 4}, {512, kOpenEnd}, false}})};
}

}  // namespace

TEST_CASE("one unit decodes in a chain of stages") {
  const ModelSpec model = small_model();
  const TaskGraph graph = lower(model, single_unit_plan(model, {"cpu0"}, 0), step_of(1, 100));
  std::string stages;
  for (const Task& task : graph.tasks) {
    stages += std::string(name(task.stage)) + " ";
    CHECK(task.deps == (task.id == 0 ? std::vector<int>{} : std::vector<int>{task.id - 1}));
  }
  CHECK(
      stages ==
      "embed qkv attention out gate_up down qkv attention out gate_up down lm_head sample commit ");
}

TEST_CASE("bytes and flops of a decode step are those of its matrices and its cache") {
  const ModelSpec model = small_model();
  const TaskGraph graph = lower(model, single_unit_plan(model, {"cpu0"}, 0), step_of(3, 100, 2));
  CHECK(graph.tasks[0].bytes == 3 * 64 * 4);  // three embedding rows of 64 floats
  const Task qkv = tasks_of(graph, Stage::kQkv, 0).at(0);
  CHECK(qkv.num_matrices == 3);
  CHECK(qkv.matrices[0].columns == 64);  // 4 kv heads x group 2 x head_dim 8
  CHECK(qkv.matrices[2].columns == 32);
  CHECK(qkv.kv_heads == 4);
  CHECK(qkv.bytes == 128 * 64 * 4);
  CHECK(qkv.flops == 2.0 * 128 * 64 * 3);
  const Task attention = tasks_of(graph, Stage::kAttention, 0).at(0);
  CHECK(attention.positions == 102);                    // 100 cached; 1, 2, 3 new, 2 on average
  CHECK(attention.bytes == 2 * 4 * 103 * 8 * 2);        // K and V, 4 heads, 103 positions of 8 f16
  CHECK(attention.flops == 4.0 * 8 * 2 * 4 * 3 * 102);  // head_dim, group, heads, tokens, positions
  const Task down = tasks_of(graph, Stage::kDown, 1).at(0);
  CHECK(down.matrices[0].k == 128);
  CHECK(down.range == Range{0, 64});
  const Task lm_head = tasks_of(graph, Stage::kLmHead, -1).at(0);
  CHECK(lm_head.tokens == 2);
  CHECK(lm_head.flops == 2.0 * 160 * 64 * 2);
  CHECK(tasks_of(graph, Stage::kCommit, -1).at(0).bytes == 2 * 2 * 4 * 3 * 8 * 2);  // two layers
}

TEST_CASE("dependencies come before the task that waits for them") {
  const ModelSpec model = small_model();
  for (const Plan& plan : hand_written_plans(model))
    for (const int64_t context : {0, 100, 1000})
      for (const Task& task : lower(model, plan, step_of(4, context)).tasks) {
        CHECK((task.stage == Stage::kEmbed) == task.deps.empty());
        for (const int dep : task.deps) CHECK(dep < task.id);
      }
}

TEST_CASE("however a plan cuts it, the work is the same") {
  const ModelSpec model = small_model();
  const auto totals = [&](const Plan& plan, const Step& step) {
    std::map<Stage, double> flops;
    double weights = 0;
    for (const Task& task : lower(model, plan, step).tasks) {
      flops[task.stage] += task.flops;
      if (task.num_matrices > 0) weights += task.bytes;
    }
    CHECK(weights == weight_bytes_per_token(model));
    return flops;
  };
  for (const int64_t context : {0, 100, 1000}) {
    const Step step = step_of(4, context);
    const auto expected = totals(single_unit_plan(model, {"cpu0"}, 0), step);
    for (const Plan& plan : hand_written_plans(model))
      for (const auto& [stage, flops] : totals(plan, step))
        if (stage != Stage::kMerge) CHECK(flops == expected.at(stage));
  }
}

TEST_CASE("attention and commits move the bytes of the KV format") {
  ModelSpec model = small_model();
  model.head_dim = model.rope_dim = 32;
  for (const auto& [dtype, row] : {std::pair<DType, int64_t>{DType::kF32, 128},
                                   {DType::kF16, 64},
                                   {DType::kBF16, 64},
                                   {DType::kQ8_0, 34}}) {
    Plan plan = single_unit_plan(model, {"cpu0"}, 0);
    plan.kv_dtype = dtype;
    const TaskGraph graph = lower(model, plan, step_of(3, 100, 2));
    CHECK(tasks_of(graph, Stage::kAttention, 0).at(0).bytes ==
          static_cast<double>(2 * 4 * 103 * row));
    CHECK(tasks_of(graph, Stage::kCommit, -1).at(0).bytes ==
          static_cast<double>(2 * 2 * 4 * 3 * row));  // of two layers
  }
}

TEST_CASE("a stage waits for the whole stage before it, attention for its heads only") {
  const ModelSpec model = small_model();
  const TaskGraph graph = lower(model, two_unit_plan(model), step_of(1, 10));
  const auto ids = [&](Stage stage, int layer) {
    std::vector<int> found;
    for (const Task& task : tasks_of(graph, stage, layer)) found.push_back(task.id);
    return found;
  };
  CHECK(tasks_of(graph, Stage::kAttention, 0)[1].deps == std::vector<int>{ids(Stage::kQkv, 0)[1]});
  CHECK(tasks_of(graph, Stage::kOut, 0)[0].deps == ids(Stage::kAttention, 0));
  CHECK(tasks_of(graph, Stage::kGateUp, 0)[1].deps == ids(Stage::kOut, 0));
  CHECK(tasks_of(graph, Stage::kDown, 0)[0].deps == ids(Stage::kGateUp, 0));
  CHECK(tasks_of(graph, Stage::kQkv, 1)[0].deps == ids(Stage::kDown, 0));
  CHECK(tasks_of(graph, Stage::kLmHead, -1)[1].deps == ids(Stage::kDown, 1));
  CHECK(tasks_of(graph, Stage::kSample, -1)[0].deps == ids(Stage::kLmHead, -1));
}

TEST_CASE("attention waits for qkv of its heads wherever they were computed") {
  const ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  plan.phases[0].layers[0].qkv = cut(128, 96);  // kv heads 0-2 on cpu0, though it attends 0-1
  const TaskGraph graph = lower(model, plan, step_of(1, 10));
  const auto attention = tasks_of(graph, Stage::kAttention, 0);
  CHECK(attention[0].deps == std::vector<int>{1});
  CHECK(attention[1].deps == std::vector<int>{1, 2});
}

TEST_CASE("states of a cut head are merged in order of position, where the new tokens are") {
  const ModelSpec model = small_model();
  const Plan plan = with_attention(
      model,
      {{1, {0, 4}, {}, true}, {1, {0, 4}, {256, kOpenEnd}, false}, {0, {0, 4}, {0, 256}, false}});
  const TaskGraph graph = lower(model, plan, step_of(2, 300));
  const auto attention = tasks_of(graph, Stage::kAttention, 0);
  const auto merges = tasks_of(graph, Stage::kMerge, 0);
  REQUIRE(attention.size() == 3);
  REQUIRE(merges.size() == 1);
  CHECK(merges[0].deps == std::vector<int>{attention[2].id, attention[1].id, attention[0].id});
  CHECK(merges[0].part == 2);
  CHECK(merges[0].unit == 1);
  CHECK(merges[0].bytes == 2 * 4 * 2 * 3 * (8 + 2) * 4);  // tokens, heads, group, states, o m l
  CHECK_FALSE(attention[0].whole);
  CHECK(attention[0].positions == 1.5);  // the mean of 1 and 2 new tokens
  CHECK(attention[1].positions == 44);   // 256 to 299
  CHECK(attention[2].positions == 256);
  CHECK(tasks_of(graph, Stage::kOut, 0)[0].deps == std::vector<int>{merges[0].id});
}

TEST_CASE("a part without work in this step makes no task, and the one left is whole") {
  const ModelSpec model = small_model();
  const Plan plan =
      with_attention(model, {{0, {0, 4}, {0, 256}, true}, {1, {0, 4}, {256, kOpenEnd}, false}});
  const auto attention = [&](int64_t context) {
    return tasks_of(lower(model, plan, step_of(1, context)), Stage::kAttention, 0);
  };
  REQUIRE(attention(256).size() == 1);
  CHECK(attention(256)[0].whole);
  REQUIRE(attention(257).size() == 2);
  CHECK_FALSE(attention(257)[0].whole);
  CHECK(attention(257)[1].positions == 1);
}

TEST_CASE("a part is cut where only some of its heads are shared with another") {
  const ModelSpec model = small_model();
  const Plan plan = with_attention(model, {{0, {0, 4}, {0, 256}, true},
                                           {0, {0, 3}, {256, kOpenEnd}, false},
                                           {1, {3, 4}, {256, kOpenEnd}, false}});
  const auto tasks = tasks_of(lower(model, plan, step_of(1, 512)), Stage::kAttention, 0);
  REQUIRE(tasks.size() == 4);
  CHECK(tasks[0].range == Range{0, 3});
  CHECK(tasks[1].range == Range{3, 4});
  CHECK(tasks[1].part == 0);
  CHECK(tasks[3].unit == 1);
}

TEST_CASE("tokens of a tree see their ancestors") {
  const ModelSpec model = small_model();
  Step step = step_of(4, 10);
  step.parents = {-1, 0, 0, 2};  // depths 1, 2, 2, 3: two on average
  const Plan plan = single_unit_plan(model, {"cpu0"}, 0);
  CHECK(tasks_of(lower(model, plan, step), Stage::kAttention, 1).at(0).positions == 12);
}

TEST_CASE("without logits the step ends with the commit of the last layer's output") {
  const ModelSpec model = small_model();
  const TaskGraph graph = lower(model, two_unit_plan(model), step_of(4, 0, 0));
  CHECK(tasks_of(graph, Stage::kLmHead, -1).empty());
  CHECK(tasks_of(graph, Stage::kSample, -1).empty());
  const auto commits = tasks_of(graph, Stage::kCommit, -1);
  REQUIRE(commits.size() == 2);
  CHECK(commits[1].deps == commits[0].deps);
  CHECK(graph.tasks[static_cast<size_t>(commits[0].deps.at(0))].stage == Stage::kDown);
}

TEST_CASE("new positions are committed to their homes in the first phase") {
  const ModelSpec model = small_model();
  const Plan plan =
      with_attention(model, {{0, {0, 4}, {0, 256}, true}, {1, {0, 4}, {256, kOpenEnd}, false}});
  const auto units = [&](int64_t tokens, int64_t context) {
    std::vector<int> found;
    for (const Task& task :
         tasks_of(lower(model, plan, step_of(tokens, context)), Stage::kCommit, -1)) {
      CHECK(task.range == Range{0, 2});
      found.push_back(task.unit);
    }
    return found;
  };
  CHECK(units(4, 252) == std::vector<int>{0});
  CHECK(units(4, 253) == std::vector<int>{0, 1});
  CHECK(units(1, 256) == std::vector<int>{1});
}

TEST_CASE("all rows of logits are sampled by the host, one by the unit itself") {
  const ModelSpec model = small_model();
  Step step = step_of(4, 0, 3);
  for (const bool sampled : {false, true}) {
    step.sampled = sampled;
    const TaskGraph graph = lower(model, two_unit_plan(model), step);
    const Task sample = tasks_of(graph, Stage::kSample, -1).at(0);
    CHECK(sample.tokens == (sampled ? 3 : 1));
    CHECK(sample.bytes == static_cast<double>(sample.tokens * model.vocab_size * 4));
    CHECK(tasks_of(graph, Stage::kLmHead, -1).at(0).tokens == 3);
  }
}

TEST_CASE("a step that is none is refused") {
  const ModelSpec model = small_model();
  const Plan plan = single_unit_plan(model, {"cpu0"}, 0);
  const auto refuse = [&](const Step& step, const char* message) {
    CHECK_THROWS_WITH_AS(lower(model, plan, step), message, Error);
  };
  refuse(step_of(0, 0, 0), "step: 0 tokens; expected at least 1");
  refuse(step_of(1, -1), "step: context -1; expected at least 0");
  refuse(step_of(1, 0, 2), "step: 2 logits rows; expected 0 to its 1 tokens");
  Step tree = step_of(2, 0);
  tree.parents = {-1};
  refuse(tree, "step: 1 parents; expected one for each of 2 tokens");
  tree.parents = {-1, 1};
  refuse(tree, "step: parent of token 1 is 1; expected -1 to 0");
}

TEST_CASE("a streamed share is a task of its own that waits for its copy") {
  const ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  plan.phases[0].layers[0].gate_up = {{0, {0, 64}}, {0, {64, 96}, Home::kStreamed}, {1, {96, 128}}};
  check_plan(plan, model, "test");
  const TaskGraph graph = lower(model, plan, step_of(1, 0));
  const auto tasks = tasks_of(graph, Stage::kGateUp, 0);
  REQUIRE(tasks.size() == 3);
  CHECK(tasks[1].unit == 0);
  CHECK(tasks[1].home == Home::kStreamed);
  CHECK(tasks[1].range == Range{64, 96});
  const auto copies = tasks_of(graph, Stage::kCopy, 0);
  REQUIRE(copies.size() == 1);
  CHECK(copies[0].bytes == 2 * 32 * 64 * 4);  // gate and up, 32 columns of 64 floats
  CHECK(copies[0].flops == 0);
  CHECK(copies[0].deps.empty());
  CHECK(lane_of(copies[0], 2) == 2);
  CHECK(tasks[1].deps.back() == copies[0].id);
  CHECK(tasks[0].deps.back() < copies[0].id);  // what is resident does not wait for it
  // down waits for all three shares.
  const std::vector<int> all{tasks[0].id, tasks[1].id, tasks[2].id};
  CHECK(tasks_of(graph, Stage::kDown, 0).at(0).deps == all);
}

TEST_CASE("a copy waits for what reads the slot that it takes") {
  const ModelSpec model = small_model();
  Plan plan = single_unit_plan(model, {"gpu0"}, 0);
  LayerPlan& layer = plan.phases[0].layers[0];
  layer.qkv[0].home = layer.out[0].home = layer.down[0].home = Home::kStreamed;
  const TaskGraph graph = lower(model, plan, step_of(1, 0));
  std::vector<Task> copies, readers;  // in the order of copies
  for (const Task& task : graph.tasks) {
    if (task.stage == Stage::kCopy) copies.push_back(task);
    for (const int dep : task.deps)
      if (graph.tasks[static_cast<size_t>(dep)].stage == Stage::kCopy) readers.push_back(task);
  }
  REQUIRE(copies.size() == 10);  // q, k, v, out and down of two layers
  REQUIRE(readers.size() == 10);
  CHECK(readers[0].stage == Stage::kQkv);
  CHECK(readers[2].id == readers[0].id);
  CHECK(copies[0].bytes == 64 * 64 * 4);  // queries alone
  for (size_t i = 0; i < copies.size(); ++i)
    CHECK(copies[i].deps ==
          (i < kStreamSlots ? std::vector<int>{} : std::vector<int>{readers[i - kStreamSlots].id}));
}

TEST_CASE("a streamed share is cut where its slot is full") {
  ModelSpec model = small_model();
  model.hidden_size = 8192;  // 32 KiB a column of gate and as much of up: 256 columns fill a slot
  model.intermediate_size = 640;
  Plan plan = single_unit_plan(model, {"gpu0"}, 0);
  plan.phases[0].layers[0].gate_up[0].home = Home::kStreamed;
  const TaskGraph graph = lower(model, plan, step_of(1, 0));
  const auto tasks = tasks_of(graph, Stage::kGateUp, 0);
  REQUIRE(tasks.size() == 3);
  CHECK(tasks[0].range == Range{0, 256});
  CHECK(tasks[1].range == Range{256, 512});
  CHECK(tasks[2].range == Range{512, 640});
  CHECK(tasks_of(graph, Stage::kCopy, 0).at(0).bytes == kStreamSlotBytes);
  // Whoever waits for the share waits for its last piece.
  CHECK(tasks_of(graph, Stage::kDown, 0).at(0).deps == std::vector<int>{tasks[2].id});
}

TEST_CASE("streamed pieces fill their slots as CUDA units pack them") {
  for (const DTypeInfo& d : kDTypes) {
    CAPTURE(d.name);
    ModelSpec model = small_model();
    model.hidden_size = 8192;
    model.intermediate_size = 4096;
    model.head_dim = 128;
    model.num_heads = 64;
    model.num_kv_heads = 64;
    for (LayerDTypes& dtypes : model.layers) {
      dtypes.q = dtypes.k = dtypes.gate = DType::kQ4_K;  // as in mixes; v is the largest of a head
      dtypes.v = dtypes.up = d.dtype;
    }
    Plan plan = single_unit_plan(model, {"gpu0"}, 0);
    plan.phases[0].layers[0].qkv[0].home = plan.phases[0].layers[0].gate_up[0].home =
        Home::kStreamed;
    const auto copies = tasks_of(lower(model, plan, step_of(1, 0)), Stage::kCopy, 0);
    REQUIRE(copies.size() > 3);
    int64_t fullest = 0;
    for (const Task& copy : copies) {
      int64_t slot = 0;
      for (const MatrixWork& matrix : copy.matrices)
        slot += cuda::matrix_bytes(matrix.dtype, matrix.columns, matrix.k);
      CHECK(slot <= kStreamSlotBytes);
      CHECK(copy.bytes <= static_cast<double>(slot));
      CHECK(copy.bytes > static_cast<double>(slot - 8 * cuda::kPlaneAlign));  // rounded planes
      fullest = std::max(fullest, slot);
    }
    // A head's 128 columns of v, or 16 of gate and of up, would not go in any more.
    const int64_t head = cuda::matrix_bytes(d.dtype, 128, 8192);
    CHECK(fullest > kStreamSlotBytes - std::max(head, int64_t{1} << 20));
  }
}
