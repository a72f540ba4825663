#include "tuner/run_record.h"

#include <algorithm>
#include <numeric>

#include "sim/simulate.h"

namespace tandem {

void RunRecord::add(const StepRun& run) {
  StepRecord& record = run.decode ? decode : prefill;
  record.steps.push_back(run.step);
  record.measured.emplace_back().add(run.graph, run.timeline);
  if (keep_logits) logits.insert(logits.end(), run.logits.begin(), run.logits.end());
  if (keep_last) {
    last_graph = run.graph;
    last_timeline = run.timeline;
  }
}

std::vector<size_t> usual_steps(const StepRecord& record) {
  std::vector<size_t> order(record.measured.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return record.measured[a].makespan_s < record.measured[b].makespan_s;
  });
  const auto quarter = static_cast<std::ptrdiff_t>(order.size() / 4);
  return {order.begin() + quarter, order.end() - quarter};
}

LedgerComparison compare_steps(const StepRecord& record, const ModelSpec& model, const Plan& plan,
                               const MachineProfile& machine) {
  const CostModel cost(model, machine, plan);
  Ledger predicted;
  Ledger measured;
  for (const size_t i : usual_steps(record)) {
    const TaskGraph graph = lower(model, plan, record.steps[i]);
    predicted.add(graph, simulate(model, plan, graph, cost));
    measured.add(record.measured[i]);
  }
  return compare_ledgers(predicted, measured);
}

LedgerComparison compare_steps(const StepRecord& record) {
  Ledger measured;
  for (const size_t i : usual_steps(record)) measured.add(record.measured[i]);
  return compare_ledgers({}, measured);
}

}  // namespace tandem
