// Keeps what `tandem run` shows of its steps: ledgers of prefill and decode, logits, a trace.
#pragma once

#include <string>
#include <vector>

#include "runtime/generate.h"
#include "tuner/ledger_report.h"

namespace tandem {

/// Steps of one kind.
struct StepRecord {
  std::vector<Step> steps;
  std::vector<Ledger> measured;  ///< of each step
};

/// Indices of the middle half of the steps by makespan (all of up to three): a step during which
/// the machine did something else must not stand for the others.
std::vector<size_t> usual_steps(const StepRecord& record);

struct RunRecord {
  StepRecord prefill;
  StepRecord decode;
  bool keep_logits = false;
  std::vector<float> logits;  ///< [rows x vocab_size] of all steps, where they are kept
  bool keep_last = false;
  TaskGraph last_graph;  ///< of the last step, where it is kept
  Timeline last_timeline;

  void add(const StepRun& run);
};

/// The measured ledger of the usual steps beside the simulated one of the same steps.
LedgerComparison compare_steps(const StepRecord& record, const ModelSpec& model, const Plan& plan,
                               const MachineProfile& machine);
/// The measured ledger alone.
LedgerComparison compare_steps(const StepRecord& record);

}  // namespace tandem
