#include "sim/exchange.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;

namespace {

const UnitMemories kSecondHasOwnMemory{.own = 2};

struct Case {
  ModelSpec model = small_model();
  Plan plan = two_unit_plan(model);
  Step step{.tokens = 2, .context = 16, .logits_rows = 1, .parents = {}};

  TaskGraph graph() const { return lower(model, plan, step); }
};

/// What a task of unit 1 in layer 0 copies of a buffer.
std::vector<Range> received(const Exchange& exchange, const TaskGraph& graph, Stage stage,
                            Buffer buffer, int layer = 0) {
  std::vector<Range> ranges;
  for (const Task& task : graph.tasks)
    if (task.stage == stage && task.layer == layer && task.unit == 1)
      for (const Transfer& transfer : exchange.receives[static_cast<size_t>(task.id)])
        if (transfer.buffer == buffer) ranges.push_back(transfer.range);
  return ranges;
}

using Ranges = std::vector<Range>;

}  // namespace

TEST_CASE("units that work in host memory copy nothing") {
  const Case test;
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, {});
  for (const Task& task : graph.tasks) {
    CHECK(exchange.receives[static_cast<size_t>(task.id)].empty());
    CHECK(exchange.published_bytes[static_cast<size_t>(task.id)] == 0);
  }
}

TEST_CASE("a unit with a memory of its own copies what others computed, once, and no more") {
  const Case test;
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  // Layer 0: the embedding whole, the other's heads, its columns of out, of SwiGLU and of down.
  CHECK(received(exchange, graph, Stage::kQkv, Buffer::kX) == Ranges{{0, 64}});
  CHECK(received(exchange, graph, Stage::kAttention, Buffer::kQ).empty());  // its own heads
  CHECK(received(exchange, graph, Stage::kOut, Buffer::kAttended) == Ranges{{0, 2}});
  CHECK(received(exchange, graph, Stage::kOut, Buffer::kX).empty());  // copied for qkv
  CHECK(received(exchange, graph, Stage::kGateUp, Buffer::kX) == Ranges{{0, 32}});
  CHECK(received(exchange, graph, Stage::kDown, Buffer::kH) == Ranges{{0, 64}});
  CHECK(received(exchange, graph, Stage::kQkv, Buffer::kX, 1) == Ranges{{0, 32}});
}

TEST_CASE("a transfer's bytes are those of its rows and columns") {
  const Case test;
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  for (const Task& task : graph.tasks)
    for (const Transfer& transfer : exchange.receives[static_cast<size_t>(task.id)]) {
      if (transfer.buffer == Buffer::kX && task.stage != Stage::kLmHead)
        CHECK(transfer.bytes == static_cast<double>(transfer.range.size()) * 2 * 4);
      if (transfer.buffer == Buffer::kAttended)  // 2 query heads of 8 a kv head, 2 tokens
        CHECK(transfer.bytes == static_cast<double>(transfer.range.size()) * 16 * 2 * 4);
    }
}

TEST_CASE("of a prompt only the rows that get logits are copied for them, and of those the last") {
  Case test;
  test.plan.phases[0].lm_head = {{1, {0, 32}}, {0, {32, test.model.vocab_size}}};
  test.step = {.tokens = 9, .context = 0, .logits_rows = 3, .parents = {}};
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  int checked = 0;
  for (const Task& task : graph.tasks) {
    if (task.unit != 1) continue;
    for (const Transfer& transfer : exchange.receives[static_cast<size_t>(task.id)]) {
      const int64_t rows = task.stage == Stage::kLmHead ? 3 : task.stage == Stage::kSample ? 1 : 9;
      CHECK(transfer.rows == rows);
      if (transfer.buffer != Buffer::kX && transfer.buffer != Buffer::kLogits) continue;
      CHECK(transfer.bytes == static_cast<double>(rows * transfer.range.size() * 4));
      checked += rows < 9;
    }
    if (task.stage == Stage::kLmHead)  // whole
      CHECK(exchange.published_bytes[static_cast<size_t>(task.id)] == 3 * 32 * 4);
  }
  CHECK(checked == 2);
}

TEST_CASE("results are published where another memory or the host reads them") {
  const Case test;
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  for (const Task& task : graph.tasks) {
    const bool published = exchange.published_bytes[static_cast<size_t>(task.id)] > 0;
    CAPTURE(name(task.stage));
    if (task.unit == 1 && task.stage == Stage::kLmHead) CHECK(published);  // to sample
    if (task.unit == 1 && task.stage == Stage::kGateUp) CHECK(published);  // to unit 0's down
    if (task.unit == 1 && task.stage == Stage::kQkv) CHECK(!published);    // it attends them itself
    if (task.unit == 0) CHECK(!published);                                 // it works there
    if (task.unit == 1 && task.stage == Stage::kGateUp)
      CHECK(exchange.published_bytes[static_cast<size_t>(task.id)] == 64 * 2 * 4);  // all of it
  }
}

TEST_CASE(
    "who finds the largest logit copies the others' columns; where the host chooses, nobody") {
  Case test;
  test.plan.phases[0].lm_head = {{1, {0, 32}}, {0, {32, test.model.vocab_size}}};
  for (const bool sampled : {false, true}) {
    test.step.sampled = sampled;
    const TaskGraph graph = test.graph();
    const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
    const auto ranges = received(exchange, graph, Stage::kSample, Buffer::kLogits, -1);
    CHECK(ranges == (sampled ? Ranges{} : Ranges{{32, test.model.vocab_size}}));
    for (const Task& task : graph.tasks)  // of two tokens one has logits
      if (task.stage == Stage::kLmHead && task.unit == 1)
        CHECK(exchange.published_bytes[static_cast<size_t>(task.id)] == 32 * 4);
  }
}

TEST_CASE("a unit that does everything publishes only what the host reads") {
  Case test;
  test.plan = single_unit_plan(test.model, {"cpu0", "gpu0"}, 1);
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  for (const Task& task : graph.tasks)
    CHECK((exchange.published_bytes[static_cast<size_t>(task.id)] > 0) ==
          (task.stage == Stage::kLmHead));
  CHECK(received(exchange, graph, Stage::kQkv, Buffer::kX) == Ranges{{0, 64}});
  CHECK(received(exchange, graph, Stage::kQkv, Buffer::kX, 1).empty());
}

TEST_CASE("what another unit computed of a head is copied to where the head is attended or kept") {
  Case test;
  test.plan.phases[0].layers[0].attention = {{0, {0, 4}, {0, kOpenEnd}, false},
                                             {1, {0, 4}, {}, true}};
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  CHECK(received(exchange, graph, Stage::kAttention, Buffer::kQ) == Ranges{{0, 2}});
  CHECK(received(exchange, graph, Stage::kAttention, Buffer::kStep) == Ranges{{0, 2}});
  CHECK(received(exchange, graph, Stage::kMerge, Buffer::kStates) == Ranges{{0, 4}});
  for (const Task& task : graph.tasks)  // the home of all positions is unit 0
    if (task.stage == Stage::kQkv && task.unit == 1)
      CHECK(exchange.published_bytes[static_cast<size_t>(task.id)] > 0);
}

TEST_CASE("a unit that has only a part of the columns copies no more than these") {
  Case test;
  LayerPlan& layer = test.plan.phases[0].layers[0];
  layer.qkv = cut(128, 128);  // unit 1 has no part in what reads the whole stream
  layer.attention = {{0, {0, 4}, {0, kOpenEnd}, true}};
  layer.gate_up = cut(128, 128);
  layer.out = cut(64, 48);
  layer.down = cut(64, 16);
  const TaskGraph graph = test.graph();
  const Exchange exchange = exchange_of(test.model, test.plan, graph, kSecondHasOwnMemory);
  CHECK(received(exchange, graph, Stage::kOut, Buffer::kX) == Ranges{{48, 64}});
  // Of unit 0's out, [16, 48): unit 0 writes its first columns of down meanwhile.
  CHECK(received(exchange, graph, Stage::kDown, Buffer::kX) == Ranges{{16, 48}});
  CHECK(received(exchange, graph, Stage::kOut, Buffer::kX, 1).empty());
}

TEST_CASE("what is read from the unit that computed it need not be published for that") {
  Case test;
  test.plan.embedding = 0;
  const TaskGraph graph = test.graph();
  const UnitMemories apart{.own = 3}, connected{.own = 3, .direct = {0, 1}};
  const Exchange by_host = exchange_of(test.model, test.plan, graph, apart);
  const Exchange direct = exchange_of(test.model, test.plan, graph, connected);
  for (const Task& task : graph.tasks) {
    const auto i = static_cast<size_t>(task.id);
    CAPTURE(name(task.stage));
    CAPTURE(task.unit);
    REQUIRE(direct.receives[i].size() == by_host.receives[i].size());
    for (size_t t = 0; t < direct.receives[i].size(); ++t) {
      const Transfer& transfer = direct.receives[i][t];
      const Stage producer = graph.tasks[static_cast<size_t>(transfer.producer)].stage;
      CHECK(transfer.range == by_host.receives[i][t].range);
      CHECK(by_host.receives[i][t].from == -1);
      // Unit 1 reads unit 0's memory; what a driver embeds lies in the host's.
      CHECK(transfer.from == (task.unit == 1 && producer != Stage::kEmbed ? 0 : -1));
    }
    // Of unit 0 only the host reads any, its logits.
    const bool for_host = task.stage == Stage::kLmHead;
    CHECK(direct.published_bytes[i] ==
          (task.unit == 0 && !for_host ? 0 : by_host.published_bytes[i]));
  }
}
