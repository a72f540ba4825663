#include "tuner/run_record.h"

#include <doctest/doctest.h>

namespace tandem {
namespace {

StepRecord record_of(const std::vector<double>& makespans) {
  StepRecord record;
  for (const double seconds : makespans) {
    Ledger ledger;
    ledger.num_units = 1;
    ledger.steps = 1;
    ledger.makespan_s = seconds;
    record.measured.push_back(ledger);
    record.steps.emplace_back();
  }
  return record;
}

TEST_CASE("The usual steps are the middle half by makespan") {
  // 8 steps: the two shortest and the two longest are left out.
  const StepRecord record = record_of({9, 1, 5, 4, 3, 100, 2, 6});
  CHECK(usual_steps(record) == std::vector<size_t>{4, 3, 2, 7});  // 3, 4, 5 and 6 s
  CHECK(compare_steps(record).measured_step_s == 4.5);            // their mean
}

TEST_CASE("Up to three steps are all usual") {
  CHECK(usual_steps(record_of({})).empty());
  CHECK(usual_steps(record_of({3, 1, 2})) == std::vector<size_t>{1, 2, 0});
}

TEST_CASE("Prefill and decode are kept apart; logits and the last step where they are wanted") {
  Step step;
  TaskGraph graph;
  graph.num_units = 1;
  Timeline timeline;
  timeline.makespan_s = 2;
  const std::vector<float> logits{1, 2};
  RunRecord record;
  record.add({step, graph, timeline, logits, false});
  record.add({step, graph, timeline, logits, true});
  CHECK(record.prefill.steps.size() == 1);
  CHECK(record.decode.steps.size() == 1);
  CHECK(record.logits.empty());
  CHECK(record.last_timeline.makespan_s == 0);
  record.keep_logits = record.keep_last = true;
  record.add({step, graph, timeline, logits, true});
  CHECK(record.logits == logits);
  CHECK(record.last_timeline.makespan_s == 2);
}

}  // namespace
}  // namespace tandem
