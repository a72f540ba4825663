// What goes wrong with a GPU ends in one line and exit code 2, and leaves nothing half-written:
// through a `tandem` with emulated devices.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/tuner/this_machine.h"

namespace tandem {
namespace {

/// A folder with a profile of this machine that has cpu0 and gpu0, and plans over them.
class GpuFolder {
 public:
  GpuFolder() : spec_(open_spec({.model = kTestData + "llama-q8_0.gguf", .dtype = {}})) {
    machine_ = two_units_here();
    Unit& gpu = machine_.units[1].unit;
    gpu = parse_units("gpu0=" + core() + ",cuda:0", machine_.machine).front();
    machine_.links = {{"cpu0", "gpu0", {1e-7, 0}}, {"gpu0", "cpu0", {1e-7, 0}}};
    machine_.contention.clear();
    machine_.fingerprint = profile_fingerprint(machine_);
    write_profile(machine_, (folder_ / "machine.yaml").string());
    write("gpu.yaml", single_unit_plan(spec_, {"gpu0"}, 0));
    write("both.yaml", even_plan(spec_, {"cpu0", "gpu0"}));
    write("other.yaml", even_plan(spec_, {"cpu0", "gpu1"}));
  }

  /// `machine` is what is wrong with it, see control_from_environment.cpp.
  Finished run(const std::string& machine, const std::string& arguments) const {
    return run_program(folder_, "TANDEM_EMULATED=" + machine + " " TANDEM_EMULATED_BINARY,
                       arguments);
  }
  std::string core() const { return std::to_string(machine_.machine.cores.back()); }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  void write(const std::string& name, Plan plan) const {
    plan.model_source = kTestData + "llama-q8_0.gguf";
    plan.machine_name = machine_.machine.name;
    plan.machine_fingerprint = machine_.fingerprint;
    plan.workload = {.context = 32, .tokens = 1, .prompt = 24};
    write_plan(plan, spec_, (folder_ / name).string());
  }

  TemporaryFolder folder_;
  ModelSpec spec_;
  MachineProfile machine_;
};

const std::string kRun = "run --token-ids 1,5,9 -n 3 --json --logits out.f32 --plan ";

/// Exit code 2, one line that begins with "tandem: ", no output, and the folder as it was.
void check_refused(const GpuFolder& place, const std::string& machine, const std::string& arguments,
                   const std::string& message) {
  CAPTURE(machine);
  CAPTURE(arguments);
  const std::set<std::string> before = place.folder().names();
  const Finished finished = place.run(machine, arguments);
  CAPTURE(finished.err);
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.starts_with("tandem: "));
  CHECK(std::count(finished.err.begin(), finished.err.end(), '\n') == 1);
  CHECK(finished.err.find(message) != std::string::npos);
  CHECK(finished.out.empty());
  CHECK(place.folder().names() == before);
}

TEST_CASE("A plan over a GPU, and over a CPU and a GPU, runs and gives the CPU's tokens") {
  const GpuFolder place;
  const Finished cpu = run_tandem(TemporaryFolder(), "run --token-ids 1,5,9 -n 3 --json --model " +
                                                         kTestData + "llama-q8_0.gguf");
  REQUIRE(cpu.exit_code == 0);
  for (const std::string plan : {"gpu.yaml", "both.yaml"}) {
    CAPTURE(plan);
    const Finished finished = place.run("", kRun + plan);
    CAPTURE(finished.err);
    REQUIRE(finished.exit_code == 0);
    CHECK(nlohmann::json::parse(finished.out)["tokens"] ==
          nlohmann::json::parse(cpu.out)["tokens"]);
  }
}

TEST_CASE("A GPU that is not there is refused, whoever names it") {
  const GpuFolder place;
  for (const std::string plan : {"gpu.yaml", "both.yaml"})
    check_refused(place, "devices=0", kRun + plan,
                  "gpu0: no CUDA device 0 on this machine (0 found)");
  check_refused(place, "", kRun + "other.yaml", "unit gpu1: the machine has cpu0, gpu0");
  check_refused(place, "", "profile -o new.yaml --units 'gpu0=" + place.core() + ",cuda:7'",
                "there is no CUDA device 7 here: gpu7: no CUDA device 7 on this machine (2 found)");
  check_refused(place, "", "plan --model tinyllama-1.1b --budget gpu1=6GiB -o new.yaml",
                "no unit 'gpu1'");
}

TEST_CASE("A build without CUDA says so where a GPU is named") {
  const GpuFolder place;
  const Finished finished = run_tandem(place.folder(), kRun + "gpu.yaml");
  CHECK(finished.exit_code == 2);
  CHECK(finished.err.find("gpu0: this tandem was built without CUDA") != std::string::npos);
  const Finished profiled =
      run_tandem(place.folder(), "profile -o new.yaml --units 'gpu0=" + place.core() + ",cuda:0'");
  CHECK(profiled.exit_code == 2);
  CHECK(profiled.err.find("there is no CUDA device 0 here: gpu0: this tandem was built without") !=
        std::string::npos);
}

TEST_CASE("A driver that is too old is named with what to do") {
  const GpuFolder place;
  const std::string old = "driver_version=12040";
  const std::string message = "gpu0: the driver supports CUDA 12.4, and this program needs";
  check_refused(place, old, kRun + "both.yaml", message);
  check_refused(place, old, "profile -o new.yaml --units 'gpu0=" + place.core() + ",cuda:0'",
                message);
  const Finished info = place.run(old, "info");
  CHECK(info.exit_code == 0);
  CHECK(info.out.find(message) != std::string::npos);
}

TEST_CASE("Memory that runs out while weights are placed is refused with what to do") {
  const GpuFolder place;
  for (const std::string plan : {"gpu.yaml", "both.yaml"})
    check_refused(place, "memory_bytes=50000", kRun + plan, "gpu0: the device refused");
}

TEST_CASE("A plan that exceeds a GPU's memory is refused before anything is placed") {
  const GpuFolder place;
  check_refused(place, "", kRun + "gpu.yaml --force --set units.gpu0.memory_bytes=100000",
                ", gpu0 has 97.7 KiB");
}

TEST_CASE("A GPU that is lost ends a run or a profile, whenever it happens") {
  const GpuFolder place;
  for (const std::string plan : {"gpu.yaml", "both.yaml"})
    for (const int calls : {0, 30, 60, 90, 120})
      check_refused(place, "fail_after=" + std::to_string(calls), kRun + plan, "gpu0: CUDA: ");
  for (const int operations : {60, 150})
    check_refused(place, "fail_while_running_after=" + std::to_string(operations),
                  kRun + "both.yaml", "gpu0: CUDA: ");
  check_refused(place, "memory_bytes=1073741824,fail_after=40",
                "profile --quick --quiet --dtypes q8_0 -o new.yaml --units 'gpu0=" + place.core() +
                    ",cuda:0'",
                "gpu0: CUDA: ");
}

}  // namespace
}  // namespace tandem
