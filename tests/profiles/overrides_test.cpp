#include "profiles/overrides.h"

#include <doctest/doctest.h>

#include "kernels/error.h"
#include "profiles/profile_yaml.h"
#include "tests/profiles/sample_profile.h"

using namespace tandem;

TEST_CASE("an override sets one figure and leaves the rest") {
  const MachineProfile before = sample_profile();
  MachineProfile after = with_override(before, "units.cpu0.dram_read_per_s=80e9");
  CHECK(after.units[0].dram_read_per_s.median == 80e9);
  CHECK(after.units[0].dram_read_per_s.spread == 0);
  after.units[0].dram_read_per_s = before.units[0].dram_read_per_s;
  CHECK(profile_text(after) == profile_text(before));
}

TEST_CASE("items of a list are found by name, by the units they join, or by position") {
  const MachineProfile profile = sample_profile();
  CHECK(with_override(profile, "links.cpu1-cpu0.latency_s=1e-6").links[1].latency_s.median == 1e-6);
  CHECK(with_override(profile, "contention.cpu0+cpu1.total_per_s=6e10")
            .contention[0]
            .total_per_s.median == 6e10);
  CHECK(with_override(profile, "units.1.barrier_s.median=2e-7").units[1].barrier_s.median == 2e-7);
  const MachineProfile curve =
      with_override(profile, "units.cpu0.linear.1.from_dram.0=[500, 1e-7, 0]");
  CHECK(curve.units[0].linear[1].from_dram.points[0].x == 500);
  CHECK(with_override(profile, "machine.memory_bytes=1024").machine.memory_bytes == 1024);
}

TEST_CASE("a path that leads nowhere is answered with what exists there") {
  const MachineProfile profile = sample_profile();
  CHECK_THROWS_WITH_AS(with_override(profile, "units.cpu7.cores=8"),
                       "--set units.cpu7.cores=8: units has no 'cpu7', only cpu0, cpu1", Error);
  CHECK_THROWS_WITH_AS(with_override(profile, "links.cpu0-gpu0.latency_s=1"),
                       doctest::Contains("only cpu0-cpu1, cpu1-cpu0"), Error);
  CHECK_THROWS_WITH_AS(with_override(profile, "units.cpu0.speed=2"),
                       doctest::Contains("units.cpu0 has no 'speed', only name, kind, cores"),
                       Error);
  CHECK_THROWS_WITH_AS(with_override(profile, "machine.name.x=2"),
                       doctest::Contains("machine.name has no parts to set"), Error);
}

TEST_CASE("a value that a file may not hold is refused with the override it came from") {
  const MachineProfile profile = sample_profile();
  CHECK_THROWS_WITH_AS(with_override(profile, "units.cpu0.barrier_s=-1"),
                       "--set units.cpu0.barrier_s=-1: barrier_s: -1 is not positive", Error);
  CHECK_THROWS_WITH_AS(with_override(profile, "units.cpu0.cores=0"), doctest::Contains("1 to 4096"),
                       Error);
  CHECK_THROWS_AS(with_override(profile, "units.cpu0.cores"), Error);
  CHECK_THROWS_AS(with_override(profile, "=3"), Error);
  CHECK_THROWS_AS(with_override(profile, "machine.name=[1"), Error);
}

TEST_CASE("a number of cores scales a unit, a list of cores only renames them") {
  const MachineProfile profile = sample_profile();
  const MachineProfile scaled = with_override(profile, "units.cpu0.cores=8");
  CHECK(scaled.units[0].unit.cores.size() == 8);
  CHECK(scaled.units[0].cache_read_per_s.median == 800e9);
  const MachineProfile renamed = with_override(profile, "units.cpu0.cores=[1]");
  CHECK(renamed.units[0].unit.cores == std::vector<int>{1});
  CHECK(renamed.units[0].cache_read_per_s.median == 100e9);
  CHECK(scaled.fingerprint == profile.fingerprint);
}
