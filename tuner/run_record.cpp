#include "tuner/run_record.h"

#include "sim/simulate.h"

namespace tandem {

void RunRecord::add(const StepRun& run) {
  StepRecord& record = run.decode ? decode : prefill;
  record.steps.push_back(run.step);
  record.measured.add(run.graph, run.timeline);
  if (keep_logits) logits.insert(logits.end(), run.logits.begin(), run.logits.end());
  if (keep_last) {
    last_graph = run.graph;
    last_timeline = run.timeline;
  }
}

LedgerComparison compare_steps(const StepRecord& record, const ModelSpec& model, const Plan& plan,
                               const MachineProfile& machine) {
  const CostModel cost(model, machine, plan);
  Ledger predicted;
  for (const Step& step : record.steps) {
    const TaskGraph graph = lower(model, plan, step);
    predicted.add(graph, simulate(graph, cost));
  }
  return compare_ledgers(predicted, record.measured);
}

LedgerComparison compare_steps(const StepRecord& record) {
  return compare_ledgers({}, record.measured);
}

}  // namespace tandem
