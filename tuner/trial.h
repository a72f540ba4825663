// Times plans on an executor, interleaved, and counts only the runs made in the state of the
// machine that its profile was measured in.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "profiles/probe.h"
#include "runtime/executor.h"
#include "sim/simulate.h"

namespace tandem {

enum class TrialKind : uint8_t { kDecode, kPrefill };
constexpr const char* name(TrialKind kind) {
  return kind == TrialKind::kDecode ? "decode" : "prefill";
}

/// One thing to time: a step behind a filled cache, or a whole prompt behind none.
struct Trial {
  std::string label;
  const Plan* plan = nullptr;
  TrialKind kind = TrialKind::kDecode;
  int64_t tokens = 1;   ///< of the step, or of the prompt
  int64_t context = 0;  ///< positions cached before it
};

/// The steps of a trial, none longer than max_tokens.
std::vector<Step> trial_steps(const Trial& trial, int64_t max_tokens);

struct TrialPrediction {
  double seconds = 0;
  Interval interval;  ///< 90 %
};
TrialPrediction predict(const ModelSpec& model, const MachineProfile& machine, const Trial& trial,
                        int64_t max_tokens);

/// Seconds of every run. Where no run counted, all of them are all there is.
struct TrialRuns {
  std::vector<double> counted_s;
  std::vector<double> left_out_s;            ///< the machine was in another state before or after
  std::vector<double> dram_read_per_s = {};  ///< of the probes before and after those that counted

  double median_s() const;
  double spread() const;  ///< interquartile range over the median
};

/// Compares the machine's state now with that of a profile.
class StateGate {
 public:
  /// `profile` may be one without figures: then every state is accepted.
  explicit StateGate(const MachineProfile& profile);
  /// Probes once: see same_state().
  bool matches();
  /// Probes until it matches, for `seconds` at most; whether it does in the end.
  bool await(double seconds);
  /// As classify() names it, of the last probe; "unknown" without a profile.
  const std::string& state() const { return state_; }
  const Probe& last_probe() const { return last_; }

 private:
  StateProbe probe_;
  Conditions expected_;
  std::string state_ = "unknown";
  Probe last_;
};

struct TrialOptions {
  int64_t repeat = 5;        ///< counted runs of each trial; it is given up after 4 x as many runs
  double max_seconds = 600;  ///< no run begins later; every trial is run once nevertheless
  /// Nor after so long without a counted run: the machine stays in another state.
  double patience_s = std::numeric_limits<double>::infinity();
  int64_t max_tokens = 512;  ///< of a step
  std::function<void(double fraction, const std::string& what)> progress;
};

/// Runs the trials round-robin, so that drift of the machine meets all of them equally, until each
/// has its runs. The executor's plan is the last trial's afterwards.
std::vector<TrialRuns> run_trials(Executor& executor, const ModelSpec& model,
                                  const std::vector<Trial>& trials, StateGate& gate,
                                  const TrialOptions& options);

}  // namespace tandem
