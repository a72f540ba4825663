// `tandem compare` through the built binary.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/memory_needs.h"
#include "tests/tuner/this_machine.h"
#include "tuner/memory_limits.h"

namespace tandem {
namespace {

const std::string kBrief = " --repeat 1 --max-seconds 1 --contexts 0,32 ";

TEST_CASE("A head sweep has a point per head count and depth, and a best of both kinds") {
  const PlannedFolder place;
  const Finished finished =
      place.run("compare --plan plan.yaml --sweep heads -o compare.yaml" + kBrief);
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const YAML::Node yaml = YAML::LoadFile((place / "compare.yaml").string());
  // 2 kv heads: 0, 1 or 2 of them on cpu0, at 2 depths.
  REQUIRE(yaml["points"].size() == 6);
  for (const YAML::Node& point : yaml["points"]) {
    CHECK(point["predicted_s"].as<double>() > 0);
    CHECK(point["measured_s"].as<double>() > 0);
    CHECK(point["runs"].as<int>() + point["left_out"].as<int>() >= 1);
  }
  CHECK(yaml["model"].IsDefined());
  CHECK(finished.out.find("runs:") != std::string::npos);
}

TEST_CASE("Given plans name their model, and may be over some of the units") {
  const PlannedFolder place;
  Plan alone = place.plan();
  const ModelSpec spec = open_spec({.model = place.source(), .dtype = {}});
  alone.units = {"cpu1"};
  alone.phases = single_unit_plan(spec, alone.units, 0).phases;
  alone.embedding = 0;
  write_plan(alone, spec, (place / "alone.yaml").string());
  const Finished finished = place.run("compare plan.yaml alone.yaml --what both --json" + kBrief);
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  CHECK(json["points"].size() == 8);  // 2 plans x 2 depths x decode and prefill
  CHECK(json["points"][1]["plan"] == "alone.yaml");
}

/// What the host's memory must have for one of the plans of a brief comparison.
int64_t needed_for(const ModelSpec& spec, const MachineProfile& machine, const Plan& plan) {
  std::vector<Unit> units;
  for (const UnitProfile& profile : machine.units) units.push_back(profile.unit);
  const ExecutorOptions options{.max_context = 33, .max_tokens = 1, .progress = {}};
  return memory_totals(machine.machine, units, memory_needs(spec, plan, units, options))
      .front()
      .needed();
}

TEST_CASE("Plans that no memory holds at once run one after another") {
  const PlannedFolder place;
  const ModelSpec spec = open_spec({.model = place.source(), .dtype = {}});
  MachineProfile machine = two_units_here();
  machine.units[1].unit.memory = "dram1";  // where weights lie a second time
  for (int unit = 0; unit < 2; ++unit) {
    Plan plan = place.plan();
    plan.phases = single_unit_plan(spec, plan.units, unit).phases;
    write_plan(plan, spec, (place / fmt::format("{}.yaml", unit)).string());
  }
  const int64_t one = needed_for(spec, machine, single_unit_plan(spec, place.plan().units, 0));
  const auto compared = [&](int64_t memory_bytes) {
    machine.machine.memory_bytes = memory_bytes;
    write_profile(machine, (place / "small.yaml").string());
    const Finished finished =
        place.run("compare 0.yaml 1.yaml --json --force --machine small.yaml" + kBrief);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    return nlohmann::json::parse(finished.out);
  };
  CHECK(compared(4 * one)["in_turns"] == false);
  const auto json = compared(one + weight_bytes_per_token(spec) / 2);
  CHECK(json["in_turns"] == true);
  REQUIRE(json["points"].size() == 4);
  for (size_t i = 0; i < 4; ++i) {  // in the order of those that run together
    CHECK(json["points"][i]["plan"] == (i % 2 == 0 ? "0.yaml" : "1.yaml"));
    CHECK(json["points"][i]["context"] == (i < 2 ? 0 : 32));
  }
}

TEST_CASE("A machine that stays in another state is given up after --patience") {
  const PlannedFolder place;
  MachineProfile machine = two_units_here();
  machine.conditions.probe.dram_read_per_s = 1e15;  // no machine's
  write_profile(machine, (place / "other.yaml").string());
  const Finished finished = place.run(
      "compare plan.yaml --machine other.yaml --json --repeat 5 --contexts 0,32 "
      "--max-seconds 1000 --patience 0.5");
  CAPTURE(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto json = nlohmann::json::parse(finished.out);
  REQUIRE(json["points"].size() == 2);
  for (const auto& point : json["points"]) {
    CHECK(point["runs"] == 0);
    CHECK(point["left_out"] == 1);  // so that there is a figure, not the 20 that are tried at most
  }
}

TEST_CASE("Random plans and the sweeps of depth and width run") {
  const PlannedFolder place;
  const auto points = [&](const std::string& arguments) {
    const Finished finished = place.run("compare --plan plan.yaml --json --repeat 1 " + arguments);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    return nlohmann::json::parse(finished.out)["points"];
  };
  CHECK(points("--random-plans 3 --max-seconds 1 --contexts 0,300").size() == 6);
  CHECK(points("--sweep tokens --max-seconds 1").size() == 7);
  CHECK(points("--sweep context --max-seconds 1")[1]["context"] == 128);
}

TEST_CASE("Bad input ends with one line and exit code 2, and nothing is written") {
  const PlannedFolder place;
  const auto before = place.folder().names();
  const auto check = [&](const std::string& arguments, const std::string& expected) {
    CAPTURE(arguments);
    const Finished finished = place.run("compare -o compare.yaml " + arguments);
    CAPTURE(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(std::count(finished.err.begin(), finished.err.end(), '\n') == 1);
    CHECK(finished.err.find(expected) != std::string::npos);
    CHECK(place.folder().names() == before);
  };
  check("--plan plan.yaml", "nothing to compare");
  check("--plan plan.yaml --sweep rows", "rows");
  check("--plan plan.yaml --sweep heads --random-plans 2", "nothing to compare");
  check("absent.yaml", "absent.yaml");
  check("--plan plan.yaml --sweep heads --budget cpu0=1GiB", "planned already");
  check("--model " + place.source() + " --sweep context --budget cpu0=1KiB,cpu1=1KiB", "KiB");
  check("--plan plan.yaml --sweep heads --machine absent.yaml", "absent.yaml");
  check("--plan plan.yaml --sweep heads --contexts 1000000", "1000000");
}

}  // namespace
}  // namespace tandem
