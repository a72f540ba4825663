#include "tuner/ledger.h"

#include <doctest/doctest.h>

namespace tandem {
namespace {

/// Unit 0 works from 0 to 3 s in two stages, unit 1 from 1 to 2 s; the step takes 4 s.
struct TwoUnits {
  TaskGraph graph;
  Timeline timeline;

  TwoUnits() {
    graph.num_units = 2;
    add(Stage::kOut, 0, 3, 0, 2);
    add(Stage::kDown, 0, 3, 2, 3);
    add(Stage::kDown, 1, 3, 1, 2);
    timeline.makespan_s = 4;
  }
  void add(Stage stage, int unit, int layer, double start_s, double end_s) {
    Task task;
    task.id = static_cast<int>(graph.tasks.size());
    task.stage = stage;
    task.unit = unit;
    task.layer = layer;
    task.range = {0, 64};
    task.bytes = 1e9;
    task.flops = 5;
    graph.tasks.push_back(task);
    timeline.spans.push_back({.task = task.id, .unit = unit, .start_s = start_s, .end_s = end_s});
  }
};

TEST_CASE("The ledger sums time, bytes and flop by stage and unit, over steps") {
  const TwoUnits step;
  Ledger ledger;
  ledger.add(step.graph, step.timeline);
  ledger.add(step.graph, step.timeline);
  REQUIRE(ledger.entries.size() == 3);
  CHECK(ledger.entries[0].stage == Stage::kOut);
  CHECK(ledger.entries[1].stage == Stage::kDown);
  CHECK(ledger.entries[1].unit == 0);
  CHECK(ledger.entries[2].unit == 1);
  CHECK(ledger.entries[0].busy_s == 4);  // 2 s in each of two steps
  CHECK(ledger.entries[0].bytes == 2e9);
  CHECK(ledger.entries[0].tasks == 2);
  CHECK(ledger.makespan_s == 8);
}

TEST_CASE("Ledgers of single steps add up to the ledger of all") {
  const TwoUnits step;
  Ledger one;
  one.add(step.graph, step.timeline);
  Ledger all;
  all.add(one);
  all.add(one);
  CHECK(all.steps == 2);
  CHECK(all.makespan_s == 8);
  REQUIRE(all.entries.size() == 3);
  CHECK(all.entries[0].busy_s == 4);  // 2 s in each of two steps
  CHECK(all.entries[0].tasks == 2);
}

TEST_CASE("Utilisation is busy time over the makespan; the rest is waiting") {
  const TwoUnits step;
  Ledger ledger;
  CHECK(ledger.sync_share() == 0);
  ledger.add(step.graph, step.timeline);
  CHECK(ledger.utilisation(0) == 0.75);  // 3 of 4 s
  CHECK(ledger.utilisation(1) == 0.25);  // 1 of 4 s
  CHECK(ledger.sync_share() == 0.5);     // 1 - (0.75 + 0.25) / 2
}

TEST_CASE("Units without a task do not count as waiting") {
  TwoUnits step;
  step.graph.num_units = 3;
  Ledger ledger;
  ledger.add(step.graph, step.timeline);
  CHECK(ledger.sync_share() == 0.5);
  CHECK(ledger.utilisation(2) == 0);
}

}  // namespace
}  // namespace tandem
