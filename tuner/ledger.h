// Where the time of one or more steps went: by stage and unit. The same for simulated and measured
// timelines.
#pragma once

#include <string>
#include <vector>

#include "sim/task_graph.h"

namespace tandem {

/// All tasks of one stage on one unit whose weights have one home.
struct LedgerEntry {
  Stage stage = Stage::kEmbed;
  int unit = 0;
  Home home = Home::kResident;
  int tasks = 0;
  double busy_s = 0;
  double bytes = 0;
  double flops = 0;
};

struct Ledger {
  int num_units = 0;
  int steps = 0;
  double makespan_s = 0;             ///< summed over steps
  std::vector<LedgerEntry> entries;  ///< those with tasks, by stage, unit, home

  /// Adds a step. All steps are of one plan.
  void add(const TaskGraph& graph, const Timeline& timeline);
  /// Adds the steps of another ledger.
  void add(const Ledger& other);
  /// Of the unit itself: copies over its link run beside.
  double busy_s(int unit) const;
  /// busy_s over the makespan.
  double utilisation(int unit) const;
  /// Share of the time of units that have work which passes waiting for other units: 1 - mean
  /// utilisation.
  double sync_share() const;
};

}  // namespace tandem
