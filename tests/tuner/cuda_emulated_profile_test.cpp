// The profile of a machine with emulated GPUs, of a few megabytes instead of all that its caches
// cannot hold: every probe runs, and what is written can be read, planned with and simulated.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "profiles/probe.h"
#include "tests/kernels/cuda_emulated_machine.h"
#include "tests/tuner/this_machine.h"

namespace tandem {
namespace {

/// This machine as one with little cache and memory, which probes walk over.
Machine small_machine() {
  Machine machine = detect_machine();
  machine.caches = {{.level = 3, .bytes = 256 << 10, .sharing_cores = 1}};
  machine.memory_bytes = 16 << 20;
  return machine;
}

/// Units of it, whose own memories are as small.
std::vector<Unit> small_units(const std::string& text, const Machine& machine) {
  std::vector<Unit> units = parse_units(text, machine);
  for (Unit& unit : units) unit.memory_bytes = std::min(unit.memory_bytes, machine.memory_bytes);
  return units;
}

MachineProfile profile_of_units(const std::string& units) {
  const Machine machine = small_machine();
  ProfileOptions options;
  options.quick = true;
  options.dtypes = {DType::kQ8_0};
  options.max_tokens = 4;
  options.limit_s = 0.1;
  MachineProfile profile = profile_machine(machine, small_units(units, machine), options);
  const std::vector<Unit> whole = parse_units(units, machine);
  for (size_t i = 0; i < whole.size(); ++i)
    profile.units[i].unit.memory_bytes = whole[i].memory_bytes;
  return profile;
}

/// "cpu0=0;gpu0=1,cuda:0;gpu1=1,cuda:1" on the first and the last core.
std::string units_here(int gpus) {
  const std::vector<int> cores = detect_machine().cores;
  std::string text = "cpu0=" + std::to_string(cores.front());
  for (int gpu = 0; gpu < gpus; ++gpu)
    text += ";gpu" + std::to_string(gpu) + "=" + std::to_string(cores.back()) +
            ",cuda:" + std::to_string(gpu);
  return text;
}

void check_measured(const Figure& figure) {
  CHECK(std::isfinite(figure.median));
  CHECK(figure.median > 0);
  CHECK(figure.spread >= 0);
}

const Link& link_between(const MachineProfile& profile, const std::string& from,
                         const std::string& to) {
  for (const Link& link : profile.links)
    if (link.from == from && link.to == to) return link;
  FAIL("no such link");
  return profile.links.front();
}

bool has_contention(const MachineProfile& profile, const std::vector<std::string>& units) {
  for (const Contention& set : profile.contention)
    if (set.units == units) return true;
  return false;
}

/// Every figure that a CPU and two GPUs have.
void check_complete(const MachineProfile& profile) {
  REQUIRE(profile.units.size() == 3);
  for (const UnitProfile& unit : profile.units) {
    CAPTURE(unit.unit.name);
    for (const Figure& figure : {unit.dram_read_per_s, unit.cache_read_per_s, unit.barrier_s})
      check_measured(figure);
    const bool gpu = unit.unit.kind == UnitKind::kCuda;
    CHECK((unit.stream_per_s.median > 0) == gpu);
    CHECK((unit.stream_slowdown.median >= 1) == gpu);
    CHECK((unit.plain_launch_s.median > 0) == gpu);
    CHECK(unit.publish.empty() != gpu);
    for (const CurvePoint& point : unit.publish.points) check_measured(point.y);
  }
  REQUIRE(profile.links.size() == 6);
  for (const Link& link : profile.links) {
    CAPTURE(link.from);
    CAPTURE(link.to);
    check_measured(link.latency_s);
    CHECK(link.copy.empty() != link.to.starts_with("gpu"));
    for (const CurvePoint& point : link.copy.points) check_measured(point.y);
    CHECK(link.direct == (link.from.starts_with("gpu") && link.to.starts_with("gpu")));
  }
  for (const Contention& set : profile.contention) {
    check_measured(set.total_per_s);
    check_measured(set.compute_slowdown);
    for (const StreamShare& stream : set.streams) check_measured(stream.share);
  }
  CHECK(has_contention(profile, {"cpu0", "gpu0"}));
  CHECK(has_contention(profile, {"gpu0", "gpu1"}));
  CHECK(has_contention(profile, {"cpu0", "gpu1.streamed"}));
  CHECK(has_contention(profile, {"cpu0", "gpu0.streamed", "gpu1.streamed"}));
}

TEST_CASE("a CPU and two GPUs are profiled, and the profile is planned with, simulated and run") {
  MachineProfile profile;
  {
    const EmulatedMachine machine(2);
    profile = profile_of_units(units_here(2));
  }
  check_complete(profile);
  const TemporaryFolder folder;
  profile.machine = detect_machine();
  profile.fingerprint = profile_fingerprint(profile);
  write_profile(profile, (folder / "machine.yaml").string());
  // The planner may well leave emulated GPUs out: this plan uses all that was measured of them.
  const std::string source = kTestData + "llama-q8_0.gguf";
  const ModelSpec spec = open_spec({.model = source, .dtype = {}});
  Plan both = even_plan(spec, {"cpu0", "gpu0", "gpu1"});
  both.model_source = source;
  both.machine_name = profile.machine.name;
  both.machine_fingerprint = profile.fingerprint;
  both.workload = {.context = 32, .tokens = 1, .prompt = 24};
  both.phases[0].layers[0].gate_up[1].home = Home::kStreamed;
  write_plan(both, spec, (folder / "both.yaml").string());
  const auto tandem = [&](const std::string& arguments) {
    const Finished finished = run_program(folder, TANDEM_EMULATED_BINARY, arguments);
    CAPTURE(arguments);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    return nlohmann::json::parse(finished.out);
  };
  tandem("plan --json --machine machine.yaml --model " + source + " -o best.yaml");
  for (const std::string plan : {"best.yaml", "both.yaml"}) {
    const auto simulated = tandem("simulate --json --machine machine.yaml --plan " + plan);
    CHECK(simulated["makespan_s"].get<double>() > 0);
    CHECK(simulated.dump().find("null") == std::string::npos);  // as which JSON has infinity
    CHECK(tandem("run --token-ids 1,5,9 -n 3 --json --plan " + plan)["tokens"].size() == 3);
  }
}

TEST_CASE("a GPU that shares the host's memory is profiled: it streams and copies nothing") {
  const EmulatedMachine machine(1);
  cuda_emulation::set_integrated(true);
  const MachineProfile profile = profile_of_units(units_here(1));
  const UnitProfile& gpu = profile.units.back();
  CHECK(gpu.unit.memory == profile.units.front().unit.memory);
  CHECK(gpu.stream_per_s.median == 0);
  check_measured(gpu.dram_read_per_s);
  check_measured(gpu.barrier_s);
  CHECK(link_between(profile, "cpu0", "gpu0").copy.empty());
  CHECK(gpu.publish.empty());
}

}  // namespace
}  // namespace tandem
