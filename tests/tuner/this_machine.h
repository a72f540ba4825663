// A profile of the machine that runs the test, with two units and figures on paper, and a folder
// with it. Nothing is measured.
#pragma once

#include <string>

#include "profiles/profile_yaml.h"
#include "profiles/topology.h"
#include "tests/sim/fixtures.h"
#include "tests/tuner/run_binary.h"
#include "tuner/legal_plans.h"
#include "tuner/model_source.h"
#include "tuner/plan_yaml.h"

namespace tandem {

inline const std::string kTestData = TANDEM_SOURCE_DIR "/tests/data/";

/// Units cpu0 and cpu1 on the first and the last core (one core for both where there is but one).
inline MachineProfile two_units_here() {
  MachineProfile profile;
  profile.machine = detect_machine();
  for (const auto& [name, core] : {std::pair{"cpu0", profile.machine.cores.front()},
                                   std::pair{"cpu1", profile.machine.cores.back()}}) {
    UnitProfile unit = fixtures::reader(name, 1e10);
    unit.unit = parse_units(std::string(name) + "=" + std::to_string(core), profile.machine)[0];
    unit.barrier_s = {1e-6, 0};
    profile.units.push_back(unit);
  }
  profile.date = "2026-11-23T00:00:00Z";
  profile.tool_version = kToolVersion;
  profile.conditions = {.state = "near", .probe = {1e-7, 2e10}, .measured_outside = 0};
  profile.links = {{"cpu0", "cpu1", {1e-7, 0}}, {"cpu1", "cpu0", {1e-7, 0}}};
  profile.contention = {{{"cpu0", "cpu1"}, {2e10, 0}, {}, {1, 0}}};
  profile.fingerprint = profile_fingerprint(profile);
  return profile;
}

/// A folder with machine.yaml and plan.yaml: the model divided evenly over both units.
class PlannedFolder {
 public:
  explicit PlannedFolder(const std::string& model = "llama-q8_0.gguf")
      : source_(kTestData + model), spec_(open_spec({.model = source_, .dtype = {}})) {
    const MachineProfile machine = two_units_here();
    write_profile(machine, (folder_ / "machine.yaml").string());
    Plan plan = even_plan(spec_, {"cpu0", "cpu1"});
    plan.model_source = source_;
    plan.machine_name = machine.machine.name;
    plan.machine_fingerprint = machine.fingerprint;
    plan.workload = {.context = 32, .tokens = 1, .prompt = 24};
    write(plan);
  }

  Finished run(const std::string& arguments) const { return run_tandem(folder_, arguments); }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }
  const TemporaryFolder& folder() const { return folder_; }
  const std::string& source() const { return source_; }
  Plan plan() const { return read_plan((folder_ / "plan.yaml").string(), spec_); }
  void write(const Plan& plan) const { write_plan(plan, spec_, (folder_ / "plan.yaml").string()); }

 private:
  TemporaryFolder folder_;
  std::string source_;
  ModelSpec spec_;
};

}  // namespace tandem
