// Predicted beside measured: two ledgers of the same steps, row by row.
#pragma once

#include <string>
#include <vector>

#include "tuner/cli.h"
#include "tuner/ledger.h"

namespace tandem {

/// All tasks of one stage on one unit whose weights have one home, per step.
struct LedgerRow {
  Stage stage = Stage::kEmbed;
  int unit = 0;
  Home home = Home::kResident;
  double predicted_s = 0;  ///< 0 without a prediction
  double measured_s = 0;   ///< of copies 0: devices make them unseen
  double bytes = 0;
  double flops = 0;
};

/// A unit's part of a step.
struct UnitRow {
  int unit = 0;
  double predicted_s = 0;  ///< in tasks; 0 without a prediction
  double measured_s = 0;
  double sync_share = 0;  ///< of the measured step that passes outside its tasks: waiting
};

struct LedgerComparison {
  bool predicted = false;
  double predicted_step_s = 0;
  double measured_step_s = 0;  ///< mean
  std::vector<LedgerRow> rows;
  std::vector<UnitRow> units;  ///< those with tasks
};

/// (predicted - measured) / measured; 0 where nothing was measured.
double relative_error(double predicted, double measured);

/// `predicted` holds as many steps as `measured`, or none where there is no prediction.
LedgerComparison compare_ledgers(const Ledger& predicted, const Ledger& measured);

/// A table of stages and units, and lines of totals; `title` says what the steps were.
std::string ledger_text(const LedgerComparison& comparison, const std::vector<std::string>& units,
                        const std::string& title);
Json to_json(const LedgerComparison& comparison, const std::vector<std::string>& units);

}  // namespace tandem
