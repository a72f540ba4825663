#include "tuner/ledger_report.h"

#include <fmt/format.h>

#include <algorithm>

namespace tandem {
namespace {

const LedgerEntry* find(const Ledger& ledger, const LedgerEntry& like) {
  const auto at =
      std::find_if(ledger.entries.begin(), ledger.entries.end(), [&](const LedgerEntry& e) {
        return e.stage == like.stage && e.unit == like.unit && e.home == like.home;
      });
  return at == ledger.entries.end() ? nullptr : &*at;
}

std::vector<LedgerRow> stage_rows(const Ledger& predicted, const Ledger& measured) {
  const double steps = measured.steps;
  std::vector<LedgerRow> rows;
  for (const LedgerEntry& entry : measured.entries) {
    const LedgerEntry* twin = find(predicted, entry);
    rows.push_back({.stage = entry.stage,
                    .unit = entry.unit,
                    .home = entry.home,
                    .predicted_s = twin == nullptr ? 0 : twin->busy_s / steps,
                    .measured_s = entry.busy_s / steps,
                    .bytes = entry.bytes / steps,
                    .flops = entry.flops / steps});
  }
  for (const LedgerEntry& entry : predicted.entries)
    if (entry.stage == Stage::kCopy)
      rows.push_back({.stage = entry.stage,
                      .unit = entry.unit,
                      .home = entry.home,
                      .predicted_s = entry.busy_s / steps,
                      .bytes = entry.bytes / steps});
  return rows;
}

std::vector<UnitRow> unit_rows(const Ledger& predicted, const Ledger& measured) {
  std::vector<UnitRow> rows;
  for (int unit = 0; unit < measured.num_units; ++unit) {
    const double busy_s = measured.busy_s(unit);
    if (busy_s == 0) continue;
    rows.push_back({.unit = unit,
                    .predicted_s = predicted.busy_s(unit) / measured.steps,
                    .measured_s = busy_s / measured.steps,
                    .sync_share = 1 - measured.utilisation(unit)});
  }
  return rows;
}

/// "+3.1 %", or blank without a prediction.
std::string error_text(bool predicted, double predicted_s, double measured_s) {
  if (!predicted) return "";
  return fmt::format("{:+.1f} %", 100 * relative_error(predicted_s, measured_s));
}

std::string seconds_text(bool present, double seconds) {
  return present ? format_seconds(seconds) : "-";
}

std::string rate_text(const LedgerRow& row) {
  return row.measured_s > 0 && row.bytes > 0 ? format_bytes_per_s(row.bytes / row.measured_s) : "";
}

}  // namespace

double relative_error(double predicted, double measured) {
  return measured > 0 ? (predicted - measured) / measured : 0;
}

LedgerComparison compare_ledgers(const Ledger& predicted, const Ledger& measured) {
  LedgerComparison comparison;
  if (measured.steps == 0) return comparison;
  comparison.predicted = predicted.steps > 0;
  comparison.predicted_step_s = predicted.makespan_s / measured.steps;
  comparison.measured_step_s = measured.makespan_s / measured.steps;
  comparison.rows = stage_rows(predicted, measured);
  comparison.units = unit_rows(predicted, measured);
  return comparison;
}

std::string ledger_text(const LedgerComparison& comparison, const std::vector<std::string>& units,
                        const std::string& title) {
  const bool known = comparison.predicted;
  Table table({title, "unit", "predicted", "measured", "error", "reads", "sync"});
  const auto unit_name = [&](int unit) { return units[static_cast<size_t>(unit)]; };
  for (const LedgerRow& row : comparison.rows) {
    const bool seen = row.stage != Stage::kCopy;
    table.add({std::string(name(row.stage)), format_holder(unit_name(row.unit), row.home),
               seconds_text(known, row.predicted_s), seconds_text(seen, row.measured_s),
               error_text(known && seen, row.predicted_s, row.measured_s), rate_text(row)});
  }
  for (const UnitRow& row : comparison.units)
    table.add({"all tasks", unit_name(row.unit), seconds_text(known, row.predicted_s),
               format_seconds(row.measured_s), error_text(known, row.predicted_s, row.measured_s),
               "", fmt::format("{:.1f} %", 100 * row.sync_share)});
  table.add({"step", "", seconds_text(known, comparison.predicted_step_s),
             format_seconds(comparison.measured_step_s),
             error_text(known, comparison.predicted_step_s, comparison.measured_step_s)});
  return table.text();
}

Json to_json(const LedgerComparison& comparison, const std::vector<std::string>& units) {
  const auto times = [&](Json json, double predicted_s, double measured_s) {
    if (comparison.predicted) {
      json["predicted_s"] = predicted_s;
      json["error"] = relative_error(predicted_s, measured_s);
    }
    json["measured_s"] = measured_s;
    return json;
  };
  Json json = times(Json::object(), comparison.predicted_step_s, comparison.measured_step_s);
  json["stages"] = Json::array();
  for (const LedgerRow& row : comparison.rows) {
    Json key = {{"stage", name(row.stage)}, {"unit", units[static_cast<size_t>(row.unit)]}};
    if (row.home == Home::kStreamed) key["home"] = "streamed";
    if (row.stage == Stage::kCopy)
      key["predicted_s"] = row.predicted_s;
    else
      key = times(key, row.predicted_s, row.measured_s);
    json["stages"].push_back(std::move(key));
  }
  json["units"] = Json::object();
  for (const UnitRow& row : comparison.units)
    json["units"][units[static_cast<size_t>(row.unit)]] =
        times({{"sync_share", row.sync_share}}, row.predicted_s, row.measured_s);
  return json;
}

}  // namespace tandem
