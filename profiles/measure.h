// The measuring loop: many cases timed in turn, so that drift and changes of the machine's state
// hit all alike.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "profiles/machine_profile.h"

namespace tandem {

/// One figure to measure.
struct Case {
  std::string what;  ///< for progress: "cpu0 linear q4_0"
  /// Does the work `repetitions` times in a row and returns the value of one.
  std::function<double(int repetitions)> run;
  Figure* figure = nullptr;  ///< where the result goes; untouched if it was never measured
  /// Repeated until a sample takes MeasureOptions::shortest_sample_s; then values are seconds.
  bool repeats = true;
  /// Cases of one curve stand together, larger ones later: when one takes longer than
  /// MeasureOptions::longest_sample_s, those after it are left out. -1 = of no curve.
  int curve = -1;
};

struct MeasureOptions {
  double limit_s = 10;  ///< wall time of the whole loop
  int samples = 15;     ///< per case, in one state of the machine
  double shortest_sample_s = 100e-6;
  double longest_sample_s = 50e-3;
  double probe_every_s = 0.25;    ///< samples between two probes are tagged with both
  std::function<double()> now_s;  ///< monotonic
  std::function<Probe()> probe;
  std::function<void(double fraction, const std::string& what)> progress;  ///< may be empty
};

/// Median and interquartile range over median (quantiles interpolated linearly, Hyndman and Fan
/// 1996, type 7).
Figure figure_of(std::vector<double> samples);

/// The same spread; the median of the means of up to five groups that the samples are dealt to in
/// turn (Nemirovsky and Yudin 1983). Of a core that goes back and forth between two speeds this is
/// what a long run sees, where a median is one of the two; a stall spoils one group. For times of
/// calls: what several units do together takes long enough to meet a stall as often as not.
Figure steady_figure_of(const std::vector<double>& samples);

/// Runs the cases round after round until each has enough samples in the state (see same_state())
/// that most were taken in, or the time is up. Samples with a probe of another state before or
/// after them count only where a case has no others.
Conditions measure(std::span<const Case> cases, const MeasureOptions& options);

}  // namespace tandem
