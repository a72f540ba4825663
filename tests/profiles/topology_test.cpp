#include "profiles/topology.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/kernel_set.h"

using namespace tandem;

namespace {

std::vector<Unit> cpu_units(const Machine& machine) {
  std::vector<Unit> units = default_units(machine);
  std::erase_if(units, [](const Unit& unit) { return unit.kind != UnitKind::kCpu; });
  return units;
}

/// A machine whose process may use CPUs 0 to 3 and 8.
Machine fake_machine() {
  Machine machine;
  machine.cores = {0, 1, 2, 3, 8};
  machine.isas = "generic";
  return machine;
}

}  // namespace

TEST_CASE("the detected machine is the one this process may use") {
  const Machine machine = detect_machine();
  CHECK_FALSE(machine.name.empty());
  CHECK(machine.memory_bytes > 0);
  CHECK(machine.isas.ends_with("generic"));
  REQUIRE_FALSE(machine.cores.empty());
  cpu_set_t allowed;
  REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  for (const int core : machine.cores) CHECK(CPU_ISSET(static_cast<size_t>(core), &allowed));
}

TEST_CASE("a process bound to one CPU has a machine of one core") {
  cpu_set_t before;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  const int last = detect_machine().cores.back();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(last), &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  const Machine machine = detect_machine();
  sched_setaffinity(0, sizeof before, &before);
  CHECK(machine.cores == std::vector<int>{last});
  CHECK(cpu_units(machine).size() == 1);
}

TEST_CASE(
    "a GPU is a unit with a core for its driver, which no CPU unit has where there are enough") {
  const Machine machine = detect_machine();
  const auto devices = list_cuda_devices();
  if (devices.empty()) MESSAGE("no CUDA device here");
  std::vector<Unit> units = default_units(machine);
  size_t cuda = 0;
  for (const Unit& unit : units) {
    if (unit.kind != UnitKind::kCuda) continue;
    CHECK(unit.name == "gpu" + std::to_string(cuda));
    CHECK(unit.index == static_cast<int>(cuda++));
    REQUIRE(unit.cores.size() == 1);
    for (const Unit& other : units)
      if (other.kind == UnitKind::kCpu && machine.cores.size() > devices.size())
        CHECK(std::find(other.cores.begin(), other.cores.end(), unit.cores[0]) ==
              other.cores.end());
  }
  CHECK(cuda == devices.size());
}

TEST_CASE("a unit is made a GPU by hand, and one that is not here is refused") {
  const Machine machine = detect_machine();
  const std::string core = std::to_string(machine.cores.front());
  CHECK_THROWS_WITH_AS(parse_units("g=" + core + ",cuda:99", machine),
                       doctest::Contains("there is no CUDA device 99 here"), Error);
  if (list_cuda_devices().empty()) return;
  const Unit unit = parse_units("g=" + core + ",cuda:0", machine).front();
  CHECK(unit.kind == UnitKind::kCuda);
  CHECK(unit.memory == "gpu0");
  // The driver keeps some for itself.
  CHECK(unit.memory_bytes < list_cuda_devices().front().memory_bytes);
  CHECK(unit.memory_bytes > list_cuda_devices().front().memory_bytes / 2);
  CHECK(unit.cores == std::vector<int>{machine.cores.front()});
}

TEST_CASE("default units share out the cores, each core once") {
  const Machine machine = detect_machine();
  std::set<int> seen;
  for (const Unit& unit : cpu_units(machine)) {
    CHECK_FALSE(unit.cores.empty());
    CHECK(unit.memory.starts_with("dram"));
    CHECK(unit.isa == kernel_set("").name);
    for (const int core : unit.cores) {
      CHECK(seen.insert(core).second);
      CHECK(std::find(machine.cores.begin(), machine.cores.end(), core) != machine.cores.end());
    }
  }
  CHECK_FALSE(seen.empty());
}

TEST_CASE("units are read with cores, ranges and an instruction set") {
  const std::vector<Unit> units = parse_units("big=0-2,8;small_1=3,isa:generic", fake_machine());
  REQUIRE(units.size() == 2);
  CHECK(units[0].name == "big");
  CHECK(units[0].cores == std::vector<int>{0, 1, 2, 8});
  CHECK(units[0].isa == kernel_set("").name);
  CHECK(units[1].name == "small_1");
  CHECK(units[1].cores == std::vector<int>{3});
  CHECK(units[1].isa == "generic");
}

TEST_CASE("two units may share a core") {
  const std::vector<Unit> units = parse_units("a=0;b=0,1", fake_machine());
  CHECK(units[0].cores.front() == units[1].cores.front());
}

TEST_CASE("whatever is wrong with a unit is named") {
  const auto expect = [](const std::string& text, const char* message) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(parse_units(text, fake_machine()), doctest::Contains(message), Error);
  };
  expect("", "expected NAME=CORES");
  expect("cpu0", "'cpu0': expected NAME=CORES");
  expect("cpu0=", "expected logical CPU numbers");
  expect("cpu-0=1", "a unit's name is letters, digits and _");
  expect("=1", "a unit's name");
  expect("cpu0=5", "CPU 5 is not one that this process may use: 0,1,2,3,8");
  expect("cpu0=0-8", "CPU 4 is not one");
  expect("cpu0=3-1", "a range of CPUs ascends");
  expect("cpu0=0x1", "expected logical CPU numbers");
  expect("cpu0=1,0-2", "CPU 1 is given twice to unit cpu0");
  expect("cpu0=0,isa:mmx", "no kernel set 'mmx' runs here, expected one of generic");
  expect("cpu0=0,speed:9", "unknown option, expected isa:NAME");
  expect("cpu0=isa:generic", "a unit needs at least one CPU");
  expect("a=0;a=1", "there is a unit of this name already");
  expect("a=0;", "expected NAME=CORES");
}
