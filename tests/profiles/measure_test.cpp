#include "profiles/measure.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

using namespace tandem;

namespace {

/// A machine in which time passes only while a case runs or the probe reads.
struct FakeMachine {
  double now_s = 0;
  Probe state{100e-9, 40e9};
  std::vector<std::string> ran;

  MeasureOptions options(double limit_s, int samples) {
    return {.limit_s = limit_s,
            .samples = samples,
            .probe_every_s = 1e9,
            .now_s = [this] { return now_s; },
            .probe =
                [this] {
                  now_s += 0.02;
                  return state;
                },
            .progress = {}};
  }
  /// A case whose work takes `seconds_of(repetitions)` each time.
  Case work_of(const std::string& what, std::function<double(int)> seconds_of, Figure& figure,
               int curve = -1) {
    return {.what = what,
            .run =
                [this, what, seconds_of = std::move(seconds_of)](int repetitions) {
                  const double seconds = seconds_of(repetitions);
                  now_s += repetitions * seconds;
                  ran.push_back(what);
                  return seconds;
                },
            .figure = &figure,
            .curve = curve};
  }
  Case work(const std::string& what, double seconds, Figure& figure, int curve = -1) {
    return work_of(
        what, [seconds](int) { return seconds; }, figure, curve);
  }
};

}  // namespace

TEST_CASE("a figure is the median and the interquartile range over it") {
  // Sorted 1 2 3 4 10: median 3, quartiles 2 and 4.
  const Figure odd = figure_of({10, 1, 4, 2, 3});
  CHECK(odd.median == 3);
  CHECK(odd.spread == doctest::Approx(2.0 / 3));
  // Sorted 1 2 3 4: quartiles at 0.75 and 2.25 of the way: 1.75 and 3.25, median 2.5.
  const Figure even = figure_of({4, 3, 2, 1});
  CHECK(even.median == 2.5);
  CHECK(even.spread == doctest::Approx(1.5 / 2.5));
  CHECK(figure_of({7}).spread == 0);
}

TEST_CASE("of two speeds in turn a figure is what a long run sees, whatever one stall says") {
  // 15 samples, dealt to 5 groups: every group has one of the slow ones and a mean of 4 / 3.
  std::vector<double> samples;
  for (int i = 0; i < 15; ++i) samples.push_back(i < 5 ? 2 : 1);
  CHECK(figure_of(samples).median == 1);
  CHECK(steady_figure_of(samples).median == doctest::Approx(4.0 / 3));
  samples[7] = 100;
  CHECK(steady_figure_of(samples).median == doctest::Approx(4.0 / 3));
  CHECK(steady_figure_of(samples).spread == figure_of(samples).spread);
  CHECK(steady_figure_of({1, 9, 2}).median == 2);  // too few for groups
}

TEST_CASE("cases are measured in turn, not one after the other") {
  FakeMachine machine;
  Figure a, b;
  const std::vector<Case> cases{machine.work("a", 1e-3, a), machine.work("b", 2e-3, b)};
  measure(cases, machine.options(100, 2));
  // Each calibrates once before its first sample.
  CHECK(machine.ran == std::vector<std::string>{"a", "a", "b", "b", "a", "b"});
  CHECK(a.median == doctest::Approx(1e-3));
  CHECK(b.median == doctest::Approx(2e-3));
}

TEST_CASE("a stall in the only sample that there is time for is not the figure") {
  FakeMachine machine;
  Figure figure;
  const Case stalls_once = machine.work_of(
      "stalls", [&](int) { return machine.ran.size() == 1 ? 0.1 : 1e-3; }, figure);
  measure(std::span(&stalls_once, 1), machine.options(0.05, 15));
  CHECK(machine.ran.size() == 4);  // to calibrate, the stall, two more
  CHECK(figure.median == 1e-3);
}

TEST_CASE("short work is repeated until a sample takes long enough") {
  FakeMachine machine;
  Figure figure;
  int repetitions = 0;
  const Case short_case = machine.work_of(
      "short", [&](int n) { return repetitions = n, 0x1p-20; }, figure);
  measure(std::span(&short_case, 1), machine.options(100, 1));
  CHECK(repetitions == 105);  // 100 us / 2^-20 s = 104.9
}

TEST_CASE("a case that is no repeated work runs once a sample") {
  FakeMachine machine;
  Figure rate;
  int most = 0;
  const Case rate_case{.what = "rate",
                       .run =
                           [&](int n) {
                             most = std::max(most, n);
                             return 40e9;
                           },
                       .figure = &rate,
                       .repeats = false};
  measure(std::span(&rate_case, 1), machine.options(100, 3));
  CHECK(most == 1);
  CHECK(rate.median == 40e9);
}

TEST_CASE("samples of another state are taken again") {
  FakeMachine machine;
  Figure figure;
  int samples = 0;
  const Case drifting{.what = "drifting",
                      .run =
                          [&](int) {
                            machine.now_s += 1e-3;
                            ++samples;
                            // Calls 3 and 4 fall in the far state and take five times as long.
                            const bool far = samples == 3 || samples == 4;
                            machine.state.handoff_s = far ? 300e-9 : 100e-9;
                            return far ? 5e-3 : 1e-3;
                          },
                      .figure = &figure};
  const Conditions conditions = measure(std::span(&drifting, 1), machine.options(100, 3));
  CHECK(conditions.state == "near");
  CHECK(conditions.measured_outside == 0);
  // One call calibrates. Call 2 is good; 3 is mixed, 4 far, 5 mixed (its probes disagree); 6 and 7
  // are good.
  CHECK(samples == 7);
  CHECK(figure.median == 1e-3);
  CHECK(figure.spread == 0);
}

TEST_CASE("a machine that comes back to its state is waited for") {
  FakeMachine machine;
  Figure figure;
  int samples = 0, far_probes = 0;
  const Case once_far{.what = "once far",
                      .run =
                          [&](int) {
                            machine.now_s += 1e-3;
                            if (++samples == 3) far_probes = 4;
                            return 1e-3;
                          },
                      .figure = &figure};
  MeasureOptions options = machine.options(100, 3);
  options.probe = [&] {
    machine.now_s += 0.02;
    return Probe{far_probes-- > 0 ? 300e-9 : 100e-9, 40e9};
  };
  measure(std::span(&once_far, 1), options);
  // One call calibrates; call 3 ends far away; 4 and 5 are made when the machine is back.
  CHECK(samples == 5);
  CHECK(far_probes < 0);
}

TEST_CASE("a figure that was only had in another state is kept and counted") {
  FakeMachine machine;
  Figure steady, unlucky;
  std::vector<Case> cases;
  for (int i = 0; i < 4; ++i) cases.push_back(machine.work("steady", 1e-3, steady));
  cases.push_back({.what = "unlucky",
                   .run =
                       [&](int) {
                         machine.state.handoff_s = 300e-9;
                         machine.now_s += 1e-3;
                         return 5e-3;
                       },
                   .figure = &unlucky});
  MeasureOptions options = machine.options(0.3, 1);
  options.probe_every_s = 0;  // a probe after each sample
  const Conditions conditions = measure(cases, options);
  CHECK(conditions.state == "near");
  CHECK(conditions.measured_outside == 1);
  CHECK(unlucky.median == 5e-3);
  CHECK(conditions.probe.handoff_s == 100e-9);
}

TEST_CASE("when the time is up every curve has its first point and the rest stay untouched") {
  FakeMachine machine;
  Figure first, second, other;
  const std::vector<Case> cases{machine.work("first", 1e-3, first, 0),
                                machine.work("second", 2e-3, second, 0),
                                machine.work("other", 1e-3, other, 1)};
  measure(cases, machine.options(0, 5));
  CHECK(first.median == 1e-3);
  CHECK(second.median == 0);
  CHECK(other.median == 1e-3);
}

TEST_CASE("what is larger than a case that took too long is left out") {
  FakeMachine machine;
  Figure small, large, larger, elsewhere;
  const std::vector<Case> cases{
      machine.work("small", 1e-3, small, 0), machine.work("large", 60e-3, large, 0),
      machine.work("larger", 1, larger, 0), machine.work("elsewhere", 1e-3, elsewhere, 1)};
  measure(cases, machine.options(100, 2));
  CHECK(large.median == doctest::Approx(60e-3));
  CHECK(larger.median == 0);
  CHECK(elsewhere.median == doctest::Approx(1e-3));
}

TEST_CASE("progress rises to the end") {
  FakeMachine machine;
  Figure a, b;
  const std::vector<Case> cases{machine.work("a", 1e-3, a), machine.work("b", 1e-3, b)};
  MeasureOptions options = machine.options(100, 4);
  std::vector<double> fractions;
  options.progress = [&](double fraction, const std::string&) { fractions.push_back(fraction); };
  measure(cases, options);
  REQUIRE(fractions.size() == 8);
  for (size_t i = 1; i < fractions.size(); ++i) CHECK(fractions[i] > fractions[i - 1]);
  CHECK(fractions.back() == doctest::Approx(3.5 / 4));
}

TEST_CASE("on a machine that is never twice in one state the conditions are those of all probes") {
  FakeMachine machine;
  Figure figure;
  const std::vector<Case> cases{machine.work("a", 1e-3, figure)};
  MeasureOptions options = machine.options(0.05, 1);
  options.probe = [&machine] {
    machine.now_s += 0.02;
    machine.state.dram_read_per_s /= 2;
    return machine.state;
  };
  const Conditions conditions = measure(cases, options);
  CHECK(conditions.probe.dram_read_per_s > 0);
  CHECK(conditions.measured_outside == 1);
  CHECK(figure.median == doctest::Approx(1e-3));
}
