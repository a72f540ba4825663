#include "tuner/compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "runtime/generate.h"
#include "tuner/ledger_report.h"

namespace tandem {
namespace {

using GroupKey = std::tuple<TrialKind, int64_t, int64_t>;
using Points = std::vector<const ComparePoint*>;

std::map<GroupKey, Points> grouped(const std::vector<ComparePoint>& points) {
  std::map<GroupKey, Points> groups;
  for (const ComparePoint& point : points)
    if (!point.runs.counted_s.empty())
      groups[{point.trial.kind, point.trial.tokens, point.trial.context}].push_back(&point);
  return groups;
}

CompareGroup best_of(const GroupKey& key, const Points& points) {
  const ComparePoint* predicted = *std::min_element(
      points.begin(), points.end(), [](const ComparePoint* a, const ComparePoint* b) {
        return a->predicted.seconds < b->predicted.seconds;
      });
  const ComparePoint* measured = *std::min_element(
      points.begin(), points.end(), [](const ComparePoint* a, const ComparePoint* b) {
        return a->runs.median_s() < b->runs.median_s();
      });
  return {.kind = std::get<0>(key),
          .tokens = std::get<1>(key),
          .context = std::get<2>(key),
          .predicted_best = predicted->trial.label,
          .measured_best = measured->trial.label,
          .regret = predicted->runs.median_s() / measured->runs.median_s() - 1};
}

void add_errors(const std::vector<ComparePoint>& points, CompareSummary& summary) {
  std::vector<double> errors;
  for (const ComparePoint& point : points) {
    if (point.runs.counted_s.empty()) continue;
    errors.push_back(point.error());
    if (point.error() < summary.worst_error) continue;
    summary.worst_error = point.error();
    summary.worst = point.trial.label;
  }
  summary.median_error = median(std::move(errors));
}

std::string shape_text(TrialKind kind, int64_t tokens, int64_t context) {
  return fmt::format("{} {} tok at {}", name(kind), tokens, context);
}

std::string percent(double value) { return fmt::format("{:.1f} %", 100 * value); }

std::vector<std::string> row(const ComparePoint& point) {
  const double measured_s = point.runs.median_s();
  const size_t counted = point.runs.counted_s.size();
  return {point.trial.label,
          shape_text(point.trial.kind, point.trial.tokens, point.trial.context),
          format_seconds(point.predicted.seconds),
          format_seconds(measured_s),
          fmt::format("{:.1f}", static_cast<double>(point.trial.tokens) / measured_s),
          fmt::format("{:+.1f} %", 100 * relative_error(point.predicted.seconds, measured_s)),
          percent(point.runs.spread()),
          fmt::format("{}{}", counted, counted == 0 ? " (other state)" : "")};
}

Json point_json(const ComparePoint& point) {
  const double measured_s = point.runs.median_s();
  return {{"plan", point.trial.label},
          {"kind", name(point.trial.kind)},
          {"tokens", point.trial.tokens},
          {"context", point.trial.context},
          {"predicted_s", point.predicted.seconds},
          {"interval_90_s", {point.predicted.interval.low_s, point.predicted.interval.high_s}},
          {"measured_s", measured_s},
          {"error", relative_error(point.predicted.seconds, measured_s)},
          {"spread", point.runs.spread()},
          {"runs", point.runs.counted_s.size()},
          {"left_out", point.runs.left_out_s.size()},
          {"dram_read_per_s", median(point.runs.dram_read_per_s)}};
}

Json group_json(const CompareGroup& group) {
  return {{"kind", name(group.kind)},
          {"tokens", group.tokens},
          {"context", group.context},
          {"predicted_best", group.predicted_best},
          {"measured_best", group.measured_best},
          {"regret", group.regret}};
}

}  // namespace

double ComparePoint::error() const {
  return std::abs(relative_error(predicted.seconds, runs.median_s()));
}

CompareSummary summarize(const std::vector<ComparePoint>& points) {
  CompareSummary summary;
  for (const auto& [key, members] : grouped(points))
    if (members.size() > 1) summary.groups.push_back(best_of(key, members));
  add_errors(points, summary);
  for (const ComparePoint& point : points) {
    (point.runs.counted_s.empty() ? summary.points_without : summary.points) += 1;
    summary.runs_counted += std::ssize(point.runs.counted_s);
    summary.runs_left_out += std::ssize(point.runs.left_out_s);
  }
  return summary;
}

std::string compare_text(const std::vector<ComparePoint>& points, const CompareSummary& summary) {
  Table table({"plan", "step", "predicted", "measured", "tokens/s", "error", "spread", "runs"});
  for (const ComparePoint& point : points) table.add(row(point));
  std::string text = table.text() + "\n";
  for (const CompareGroup& group : summary.groups)
    text += fmt::format("{}: predicted best {}, measured best {}, regret {}\n",
                        shape_text(group.kind, group.tokens, group.context), group.predicted_best,
                        group.measured_best, percent(group.regret));
  if (summary.points > 0)
    text += fmt::format("error over {} points: median {}, worst {} ({})\n", summary.points,
                        percent(summary.median_error), percent(summary.worst_error), summary.worst);
  text += fmt::format("runs: {} counted, {} left out (the machine was in another state)",
                      summary.runs_counted, summary.runs_left_out);
  if (summary.points_without > 0)
    text += fmt::format("; {} points without a counted run are in no error and no best",
                        summary.points_without);
  return text + "\n";
}

Json compare_json(const std::vector<ComparePoint>& points, const CompareSummary& summary) {
  Json json = {{"points", Json::array()}, {"groups", Json::array()}};
  for (const ComparePoint& point : points) json["points"].push_back(point_json(point));
  for (const CompareGroup& group : summary.groups) json["groups"].push_back(group_json(group));
  json["median_error"] = summary.median_error;
  json["worst_error"] = summary.worst_error;
  json["worst"] = summary.worst;
  json["points_without_a_counted_run"] = summary.points_without;
  json["runs_counted"] = summary.runs_counted;
  json["runs_left_out"] = summary.runs_left_out;
  return json;
}

std::string compare_yaml(const Json& json) {
  std::string text;
  for (const auto& [key, value] : json.items()) {
    text += key + ":";
    if (!value.is_array()) text += " " + value.dump();
    text += "\n";
    // JSON of one line is YAML's flow style.
    if (value.is_array())
      for (const Json& item : value) text += "  - " + item.dump() + "\n";
  }
  return text;
}

}  // namespace tandem
