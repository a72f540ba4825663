#include "profiles/probe.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

#include "profiles/handoff.h"
#include "profiles/profile_yaml.h"
#include "profiles/topology.h"

using namespace tandem;

namespace {

void check_figure(const Figure& figure) {
  CHECK(figure.median > 0);
  CHECK(figure.spread >= 0);
}

/// At least one point, x ascending, all positive.
void check_curve(const Curve& curve) {
  REQUIRE_FALSE(curve.empty());
  for (size_t i = 0; i < curve.points.size(); ++i) {
    CHECK(curve.points[i].x > (i == 0 ? 0 : curve.points[i - 1].x));
    check_figure(curve.points[i].y);
  }
}

void check_unit(const UnitProfile& unit) {
  for (const Figure& figure :
       {unit.dram_read_per_s, unit.cache_read_per_s, unit.barrier_s, unit.cold_start_s})
    check_figure(figure);
  for (const Curve& curve : {unit.embed, unit.merge, unit.commit, unit.argmax}) check_curve(curve);
  REQUIRE_FALSE(unit.linear.empty());
  for (const LinearCurve& linear : unit.linear) {
    CHECK(linear.dtype == DType::kQ8_0);
    check_curve(linear.from_dram);
    check_curve(linear.from_cache);
  }
  REQUIRE(unit.row_slowdowns.size() == 1);
  CHECK(unit.row_slowdowns[0].dtype == DType::kQ8_0);
  CHECK(unit.row_slowdowns[0].by_k.points.size() == 2);
  check_curve(unit.row_slowdowns[0].by_k);
  REQUIRE(unit.prepare.size() == 1);
  check_curve(unit.prepare[0].seconds);
  REQUIRE_FALSE(unit.attention.empty());
  for (const AttentionCurve& attention : unit.attention) check_curve(attention.seconds);
}

}  // namespace

TEST_CASE("this machine can be profiled, and its profile written and read") {
  const Machine machine = detect_machine();
  const int core = machine.cores.front();
  const int other = machine.cores.back();  // the same where there is only one
  const std::vector<Unit> units =
      parse_units("a=" + std::to_string(core) + ";b=" + std::to_string(other), machine);
  ProfileOptions options;
  options.quick = true;
  options.dtypes = {DType::kQ8_0};
  options.max_tokens = 4;
  options.limit_s = 0.1;
  double last = 0;
  options.progress = [&](double fraction, const std::string& what) {
    CHECK(fraction >= last);
    CHECK(fraction <= 1);
    CHECK_FALSE(what.empty());
    last = fraction;
  };
  const MachineProfile profile = profile_machine(machine, units, options);
  REQUIRE(profile.units.size() == 2);
  for (const UnitProfile& unit : profile.units) check_unit(unit);
  REQUIRE(profile.links.size() == 2);
  for (const Link& link : profile.links) check_figure(link.latency_s);
  REQUIRE(profile.contention.size() == 1);
  check_figure(profile.contention[0].total_per_s);
  check_figure(profile.contention[0].compute_slowdown);
  for (const StreamShare& stream : profile.contention[0].streams) check_figure(stream.share);
  CHECK(profile.fingerprint == profile_fingerprint(profile));
  const std::string path =
      std::filesystem::temp_directory_path() / ("tandem_probe_" + std::to_string(getpid()));
  write_profile(profile, path);
  CHECK(profile_text(read_profile(path)) == profile_text(profile));
  std::filesystem::remove(path);
}

TEST_CASE("states are told by the hand-off and by bandwidth that is missing") {
  CHECK(classify({100e-9, 40e9}, 40e9) == "near");
  CHECK(classify({250e-9, 70e9}, 40e9) == "far");
  CHECK(classify({100e-9, 16e9}, 40e9) == "stolen");
  CHECK(classify({250e-9, 16e9}, 40e9) == "stolen");
}

TEST_CASE("a state is the same where hand-off, memory and every core's arithmetic are") {
  const Probe reference{100e-9, 40e9, 30e9, {90e9, 90e9}};
  CHECK(same_state({60e-9, 37e9, 28e9, {95e9, 85e9}}, reference));
  CHECK_FALSE(same_state({250e-9, 40e9, 30e9, {90e9, 90e9}}, reference));
  // Cores whose hand-offs lie beside the limit between near and far have not moved.
  CHECK(same_state({205e-9, 40e9}, {195e-9, 40e9}));
  CHECK_FALSE(same_state({205e-9, 40e9}, {130e-9, 40e9}));
  CHECK_FALSE(same_state({100e-9, 35e9, 30e9, {90e9, 90e9}}, reference));
  CHECK_FALSE(same_state({100e-9, 40e9, 26e9, {90e9, 90e9}}, reference));
  // A stage waits for its slowest core: one whose sibling is busy is enough.
  CHECK_FALSE(same_state({100e-9, 40e9, 30e9, {90e9, 70e9}}, reference));
  // A profile of another time may know nothing of it.
  CHECK(same_state({100e-9, 40e9, 30e9, {50e9, 50e9}}, {100e-9, 40e9, 0, {}}));
}

TEST_CASE("the probe measures a hand-off, memory and each core") {
  const Machine machine = detect_machine();
  const Probe probe = StateProbe(machine).measure();
  CHECK(probe.dram_read_per_s > 0);
  CHECK(probe.core_read_per_s > 0);
  REQUIRE(probe.compute_per_s.size() == machine.cores.size());
  for (const double rate : probe.compute_per_s) CHECK(rate > 0);
}

TEST_CASE("a hand-off takes time, on two cores and on one") {
  const std::vector<int> cores = detect_machine().cores;
  CHECK(handoff_s(cores.front(), cores.back(), 100) > 0);
  CHECK(handoff_s(cores.front(), cores.front(), 100) > 0);
}
