#include "profiles/what_if.h"

#include <doctest/doctest.h>

#include "profiles/profile_yaml.h"
#include "tests/profiles/sample_profile.h"

using namespace tandem;

TEST_CASE("as many cores as were measured change nothing") {
  const MachineProfile profile = sample_profile();
  CHECK(profile_text(with_cores(profile, "cpu0", 1)) == profile_text(profile));
}

TEST_CASE("more cores compute faster until the memory's measured rate holds them back") {
  const MachineProfile profile = with_cores(sample_profile(), "cpu0", 4);
  const UnitProfile& unit = profile.units[0];
  // 4 x 40e9 bytes/s alone, but both units together were measured to get no more than 50e9.
  CHECK(unit.dram_read_per_s.median == 50e9);
  const LinearCurve& linear = unit.linear[0];
  // From the cache: 10 us / 4.
  CHECK(linear.from_cache.points[1].y.median == doctest::Approx(2.5e-6));
  // From memory: 25 us / 4 is less than 1e6 bytes take at 50e9 bytes/s.
  CHECK(linear.from_dram.points[1].y.median == doctest::Approx(20e-6));
  // 1000 bytes in 1 us were bound by the call: 0.25 us, more than the 0.02 us of the bytes.
  CHECK(linear.from_dram.points[0].y.median == doctest::Approx(0.25e-6));
  // 4096 positions x 2 x 64 x 2 bytes / 50e9 = 21 us, more than 40 us / 4.
  CHECK(unit.attention[0].seconds.points[1].y.median == doctest::Approx(20.97152e-6));
}

TEST_CASE("fewer cores are slower in proportion and draw less of the memory") {
  MachineProfile profile = sample_profile();
  profile.units[0].unit.cores = {0, 2, 3, 4};
  const MachineProfile quarter = with_cores(profile, "cpu0", 1);
  CHECK(quarter.units[0].unit.cores == std::vector<int>{0});
  CHECK(quarter.units[0].dram_read_per_s.median == 10e9);
  CHECK(quarter.units[0].linear[0].from_dram.points[1].y.median == doctest::Approx(100e-6));
  // 10e9 and 30e9 alone cannot draw the 50e9 that were measured together.
  CHECK(quarter.contention[0].total_per_s.median == 40e9);
}

TEST_CASE("new cores get numbers that no unit has, and meet over hand-offs") {
  const MachineProfile profile = with_cores(sample_profile(), "cpu0", 4);
  CHECK(profile.units[0].unit.cores == std::vector<int>{0, 2, 3, 4});
  CHECK(profile.machine.cores == std::vector<int>{0, 1, 2, 3, 4});
  // A tree over 4 cores has 2 levels, a hand-off of 100 ns each way.
  CHECK(profile.units[0].barrier_s.median == doctest::Approx(400e-9));
}
