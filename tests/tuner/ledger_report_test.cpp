#include "tuner/ledger_report.h"

#include <doctest/doctest.h>

namespace tandem {
namespace {

Ledger ledger_of(int steps, double makespan_s, std::vector<LedgerEntry> entries) {
  Ledger ledger;
  ledger.num_units = 2;
  ledger.steps = steps;
  ledger.makespan_s = makespan_s;
  ledger.entries = std::move(entries);
  return ledger;
}

LedgerEntry entry(Stage stage, int unit, double busy_s, double bytes = 0) {
  return {.stage = stage, .unit = unit, .tasks = 1, .busy_s = busy_s, .bytes = bytes, .flops = 0};
}

/// Two steps of 2 s each; unit 0 works 3 s in all of them, unit 1 works 1 s.
Ledger measured() {
  return ledger_of(2, 4,
                   {entry(Stage::kOut, 0, 1, 2e9), entry(Stage::kDown, 0, 2, 2e9),
                    entry(Stage::kDown, 1, 1, 2e9)});
}
Ledger predicted() {
  return ledger_of(
      2, 3, {entry(Stage::kOut, 0, 1), entry(Stage::kDown, 0, 1), entry(Stage::kDown, 1, 2)});
}

TEST_CASE("An error is predicted minus measured over measured") {
  CHECK(relative_error(1.5, 2) == -0.25);
  CHECK(relative_error(2.5, 2) == 0.25);
  CHECK(relative_error(1, 0) == 0);
}

TEST_CASE("Two ledgers of the same steps are laid side by side, per step") {
  const LedgerComparison both = compare_ledgers(predicted(), measured());
  CHECK(both.predicted);
  CHECK(both.predicted_step_s == 1.5);  // 3 s in 2 steps
  CHECK(both.measured_step_s == 2);     // 4 s in 2 steps
  REQUIRE(both.rows.size() == 3);
  CHECK(both.rows[1].stage == Stage::kDown);
  CHECK(both.rows[1].unit == 0);
  CHECK(both.rows[1].predicted_s == 0.5);
  CHECK(both.rows[1].measured_s == 1);
  CHECK(both.rows[1].bytes == 1e9);
}

TEST_CASE("A unit's sync share is the part of the step outside its tasks") {
  const LedgerComparison both = compare_ledgers(predicted(), measured());
  REQUIRE(both.units.size() == 2);
  CHECK(both.units[0].measured_s == 1.5);   // 3 s in 2 steps
  CHECK(both.units[0].predicted_s == 1);    // 2 s in 2 steps
  CHECK(both.units[0].sync_share == 0.25);  // 1 - 3 / 4
  CHECK(both.units[1].sync_share == 0.75);  // 1 - 1 / 4
}

TEST_CASE("A unit without a task has no row") {
  Ledger one = measured();
  one.entries.pop_back();
  CHECK(compare_ledgers({}, one).units.size() == 1);
}

TEST_CASE("Without a prediction nothing is said about errors") {
  const LedgerComparison alone = compare_ledgers({}, measured());
  CHECK_FALSE(alone.predicted);
  const std::string text = ledger_text(alone, {"cpu0", "cpu1"}, "decode");
  CHECK(text.find('+') == std::string::npos);
  CHECK_FALSE(to_json(alone, {"cpu0", "cpu1"}).contains("error"));
}

TEST_CASE("No steps, no rows") {
  const LedgerComparison none = compare_ledgers({}, {});
  CHECK(none.rows.empty());
  CHECK(none.measured_step_s == 0);
}

TEST_CASE("The table names stage, unit, error and what was read per second") {
  const std::string text =
      ledger_text(compare_ledgers(predicted(), measured()), {"cpu0", "cpu1"}, "decode");
  CHECK(text.find("down") != std::string::npos);
  CHECK(text.find("-50.0 %") != std::string::npos);   // down on cpu0: (0.5 - 1) / 1
  CHECK(text.find("+100.0 %") != std::string::npos);  // down on cpu1: (1 - 0.5) / 0.5
  CHECK(text.find("75.0 %") != std::string::npos);    // sync share of cpu1
  CHECK(text.find("2.0") != std::string::npos);       // out: 2e9 bytes in 1 s
}

TEST_CASE("JSON has the same figures in seconds") {
  const Json json = to_json(compare_ledgers(predicted(), measured()), {"cpu0", "cpu1"});
  CHECK(json["error"] == -0.25);  // (1.5 - 2) / 2
  CHECK(json["stages"][2]["unit"] == "cpu1");
  CHECK(json["stages"][2]["error"] == 1.0);
  CHECK(json["units"]["cpu1"]["sync_share"] == 0.75);
}

TEST_CASE("Streamed work is told apart, and copies are predicted but not measured") {
  LedgerEntry streamed = entry(Stage::kDown, 1, 1, 2e9);
  streamed.home = Home::kStreamed;
  LedgerEntry copy = entry(Stage::kCopy, 1, 3, 2e9);
  copy.home = Home::kStreamed;
  const auto with = [](Ledger ledger, std::initializer_list<LedgerEntry> more) {
    ledger.entries.insert(ledger.entries.end(), more);
    return ledger;
  };
  const LedgerComparison both =
      compare_ledgers(with(predicted(), {streamed, copy}), with(measured(), {streamed}));
  REQUIRE(both.rows.size() == 5);
  CHECK(both.rows[3].predicted_s == 0.5);  // not that of the resident columns
  CHECK(both.rows[4].stage == Stage::kCopy);
  CHECK(both.rows[4].predicted_s == 1.5);
  CHECK(both.units[1].predicted_s == 1.5);  // 2 + 1 s in 2 steps: the link works beside
  const std::string text = ledger_text(both, {"cpu0", "gpu0"}, "decode");
  CHECK(text.find("gpu0 streamed") != std::string::npos);
  const std::string row = text.substr(text.find("copy"));
  CHECK(row.substr(0, row.find('\n')).find(" -") != std::string::npos);
  const Json json = to_json(both, {"cpu0", "gpu0"});
  CHECK(json["stages"][3]["home"] == "streamed");
  CHECK(json["stages"][4]["predicted_s"] == 1.5);
  CHECK_FALSE(json["stages"][4].contains("measured_s"));
}

}  // namespace
}  // namespace tandem
