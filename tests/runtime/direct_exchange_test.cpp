// Units that read each other's memory: nobody overwrites what another may still read.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "sim/exchange.h"
#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

const std::vector<std::string> kUnits{"g0", "g1", "c", "g2"};
constexpr uint64_t kOwn = 0b1011;
/// Every CUDA unit reads what every other wrote.
const UnitMemories kMemories{.own = kOwn, .direct = {0b1010, 0b1001, 0, 0b0011}};

/// [task][task] whether the second has ended when the first begins: it depends on it, or comes
/// after it in its unit's lane.
std::vector<std::vector<bool>> orders(const TaskGraph& graph) {
  const size_t n = graph.tasks.size();
  std::vector<std::vector<bool>> after(n, std::vector<bool>(n));
  std::vector<int> last_of_lane(static_cast<size_t>(2 * graph.num_units), -1);
  for (const Task& task : graph.tasks) {
    std::vector<int> before = task.deps;
    const int beside = on_host(task.stage, graph.step) ? graph.num_units : 0;
    int& last = last_of_lane[static_cast<size_t>(task.unit + beside)];
    if (last >= 0) before.push_back(last);
    last = task.id;
    std::vector<bool>& row = after[static_cast<size_t>(task.id)];
    for (const int dep : before) {
      row[static_cast<size_t>(dep)] = true;
      const std::vector<bool>& earlier = after[static_cast<size_t>(dep)];
      for (size_t i = 0; i < n; ++i) row[i] = row[i] || earlier[i];
    }
  }
  return after;
}

/// A region that a task changes in its unit's copy of a buffer.
struct Change {
  Buffer buffer;
  int index;
  Range range;
};

std::vector<Change> changes_of(const Task& task, const ModelSpec& model, const Exchange& exchange) {
  std::vector<Change> changes;
  for (const Transfer& transfer : exchange.receives[static_cast<size_t>(task.id)])
    changes.push_back({transfer.buffer, transfer.index, transfer.range});
  const int64_t width = model.qkv_columns_per_kv_head();
  const Range heads{task.range.begin / width, task.range.end / width};
  if (task.stage == Stage::kQkv) {
    changes.push_back({Buffer::kQ, 0, heads});
    changes.push_back({Buffer::kStep, task.layer, heads});
  }
  if (task.stage == Stage::kAttention && !task.whole)
    changes.push_back({Buffer::kStates, task.part, task.range});
  if ((task.stage == Stage::kAttention && task.whole) || task.stage == Stage::kMerge)
    changes.push_back({Buffer::kAttended, 0, task.range});
  if (task.stage == Stage::kGateUp) changes.push_back({Buffer::kH, 0, task.range});
  if (task.stage == Stage::kOut || task.stage == Stage::kDown)
    changes.push_back({Buffer::kX, 0, task.range});
  return changes;
}

/// A step, and what is known of its tasks.
struct Scene {
  TaskGraph graph;
  Exchange exchange;
  std::vector<std::vector<bool>> after;      ///< see orders()
  std::vector<std::vector<Change>> changes;  ///< [task]

  Scene(const ModelSpec& model, const Plan& plan, const Step& step)
      : graph(lower(model, plan, step)),
        exchange(exchange_of(model, plan, graph, kMemories)),
        after(orders(graph)) {
    for (const Task& task : graph.tasks) changes.push_back(changes_of(task, model, exchange));
  }
};

/// Tasks that change what `reader` reads directly, and may do so before it has: none.
int races(const Scene& scene, const Task& reader) {
  int count = 0;
  for (const Transfer& transfer : scene.exchange.receives[static_cast<size_t>(reader.id)]) {
    if (transfer.from < 0) continue;
    for (const Task& other : scene.graph.tasks) {
      if (other.unit != transfer.from || other.id <= transfer.producer) continue;
      for (const Change& change : scene.changes[static_cast<size_t>(other.id)])
        if (change.buffer == transfer.buffer && change.index == transfer.index &&
            !intersect(change.range, transfer.range).empty() &&
            !scene.after[static_cast<size_t>(other.id)][static_cast<size_t>(reader.id)])
          ++count;
    }
  }
  return count;
}

}  // namespace

TEST_CASE("what a unit reads from another's memory stays there until it has") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const ModelSpec model = tiny_model({.kv_heads = 4, .layers = 3});
  int64_t direct = 0;
  for (int round = 0; round < 30; ++round) {
    const Plan plan = random_plan(model, kUnits, random, {.max_context = 600, .can_stream = kOwn});
    for (const Step& step : {Step{.tokens = 1, .context = 500, .logits_rows = 1, .parents = {}},
                             Step{.tokens = 40, .context = 0, .logits_rows = 1, .parents = {}}}) {
      const Scene scene(model, plan, step);
      for (const Task& task : scene.graph.tasks) {
        CAPTURE(task.id);
        CHECK(races(scene, task) == 0);
        for (const Transfer& transfer : scene.exchange.receives[static_cast<size_t>(task.id)])
          direct += transfer.from >= 0;
      }
    }
  }
  CHECK(direct > 1000);
}

}  // namespace tandem
