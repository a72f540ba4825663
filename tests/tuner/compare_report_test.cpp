#include "tuner/compare_report.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

namespace tandem {
namespace {

ComparePoint point(const std::string& label, double predicted_s, std::vector<double> counted,
                   std::vector<double> left_out = {}) {
  ComparePoint p;
  p.trial.label = label;
  p.predicted.seconds = predicted_s;
  p.runs = {std::move(counted), std::move(left_out)};
  return p;
}

TEST_CASE("A trial's time is the median of its counted runs, and of all where none counted") {
  CHECK(TrialRuns{{3, 1, 2}, {9}}.median_s() == 2);
  CHECK(TrialRuns{{}, {9, 7, 8}}.median_s() == 8);
}

TEST_CASE("Spread is the interquartile range over the median") {
  // Quartiles of 1 2 3 4 5 are 2 and 4, the median 3.
  CHECK(TrialRuns{{5, 1, 3, 2, 4}, {}}.spread() == doctest::Approx(2.0 / 3));
  CHECK(TrialRuns{{5}, {}}.spread() == 0);
}

TEST_CASE("Regret is what the predicted best costs beyond the measured best") {
  // Predicted best is b (1.0), measured best is a (1.0); b takes 1.1: 10 % regret.
  const auto summary =
      summarize({point("a", 1.2, {1.0}), point("b", 1.0, {1.1}), point("c", 2.0, {2.5})});
  REQUIRE(summary.groups.size() == 1);
  CHECK(summary.groups[0].predicted_best == "b");
  CHECK(summary.groups[0].measured_best == "a");
  CHECK(summary.groups[0].regret == doctest::Approx(0.1));
}

TEST_CASE("Errors are relative to what was measured; median and worst are over all points") {
  // 1.2 / 1.0 is 20 % off, 1.0 / 1.25 is 20 %, 2.0 / 2.5 is 20 %, 3 / 2 is 50 %.
  const auto summary = summarize({point("a", 1.2, {1.0}), point("b", 1.0, {1.25}),
                                  point("c", 2.0, {2.5}), point("d", 3.0, {2.0})});
  CHECK(summary.median_error == doctest::Approx(0.2));
  CHECK(summary.worst_error == doctest::Approx(0.5));
  CHECK(summary.worst == "d");
  CHECK(summary.points == 4);
}

TEST_CASE("Points without a counted run are in no figure, but they are counted") {
  const auto summary = summarize({point("a", 1.0, {1.0}), point("b", 9.0, {}, {1.0, 1.0})});
  CHECK(summary.points == 1);
  CHECK(summary.points_without == 1);
  CHECK(summary.worst_error == 0);
  CHECK(summary.runs_counted == 1);
  CHECK(summary.runs_left_out == 2);
  CHECK(summary.groups.empty());  // one point is no choice
}

TEST_CASE("Steps of different depth or kind do not compete") {
  std::vector<ComparePoint> points{point("a", 1, {1}), point("b", 1, {1}), point("c", 1, {1})};
  points[1].trial.context = 1024;
  points[2].trial.kind = TrialKind::kPrefill;
  CHECK(summarize(points).groups.empty());
}

TEST_CASE("The table and the YAML have a line per point") {
  const std::vector<ComparePoint> points{point("cpu0 5 %", 1.1, {1.0}), point("b", 1.0, {2.0})};
  const auto summary = summarize(points);
  const std::string text = compare_text(points, summary);
  CHECK(text.find("+10.0 %") != std::string::npos);
  CHECK(text.find("-50.0 %") != std::string::npos);
  CHECK(text.find("regret 100.0 %") != std::string::npos);
  const YAML::Node yaml = YAML::Load(compare_yaml(compare_json(points, summary)));
  REQUIRE(yaml["points"].size() == 2);
  CHECK(yaml["points"][0]["plan"].as<std::string>() == "cpu0 5 %");
  CHECK(yaml["points"][1]["measured_s"].as<double>() == 2);
  CHECK(yaml["groups"][0]["measured_best"].as<std::string>() == "cpu0 5 %");
  CHECK(yaml["worst_error"].as<double>() == doctest::Approx(0.5));
}

}  // namespace
}  // namespace tandem
