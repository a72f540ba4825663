#include "tuner/trial.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "runtime/generate.h"
#include "tuner/token_input.h"

namespace tandem {
namespace {

/// A step right after the caches were filled finds them elsewhere than the next step does.
constexpr int kWarmUpSteps = 1;
constexpr int kTimedSteps = 3;
/// For the machine to come back to the state before a run; most states last a second.
constexpr double kWaitSeconds = 2;
/// A machine that stays in another state must not hold the command up for ever.
constexpr size_t kRunsPerCountedRun = 4;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double run_step(Executor& executor, const ModelSpec& model, const Step& step) {
  const auto tokens = random_tokens(step.tokens, model.vocab_size, 1);
  return executor.run(step, tokens).makespan_s;
}

double run_decode(Executor& executor, const ModelSpec& model, const Step& step) {
  std::vector<double> seconds;
  for (int i = -kWarmUpSteps; i < kTimedSteps; ++i) {
    executor.set_context(step.context);
    const double step_s = run_step(executor, model, step);
    if (i >= 0) seconds.push_back(step_s);
  }
  return median(std::move(seconds));
}

double run_once(Executor& executor, const ModelSpec& model, const Trial& trial,
                int64_t max_tokens) {
  const auto steps = trial_steps(trial, max_tokens);
  executor.set_plan(*trial.plan);
  if (trial.kind == TrialKind::kDecode) return run_decode(executor, model, steps.front());
  executor.set_context(trial.context);
  double seconds = 0;
  for (const Step& step : steps) seconds += run_step(executor, model, step);
  return seconds;
}

bool wants_run(const TrialRuns& runs, size_t repeat, bool late) {
  const size_t all = runs.counted_s.size() + runs.left_out_s.size();
  if (late) return all == 0;
  return runs.counted_s.size() < repeat && all < repeat * kRunsPerCountedRun;
}

/// Of a trial, whichever end of it is nearer: its counted runs, or giving it up.
double share_done(const std::vector<TrialRuns>& runs, int64_t repeat) {
  double sum = 0;
  for (const TrialRuns& trial : runs) {
    const auto counted = static_cast<double>(trial.counted_s.size());
    const double all = counted + static_cast<double>(trial.left_out_s.size());
    sum += std::max(counted, all / kRunsPerCountedRun);
  }
  return sum / static_cast<double>(repeat) / static_cast<double>(runs.size());
}

}  // namespace

std::vector<Step> trial_steps(const Trial& trial, int64_t max_tokens) {
  if (trial.kind == TrialKind::kPrefill)
    return prefill_steps(trial.tokens, max_tokens, trial.context);
  return {{.tokens = trial.tokens,
           .context = trial.context,
           .logits_rows = trial.tokens,
           .parents = {}}};
}

TrialPrediction predict(const ModelSpec& model, const MachineProfile& machine, const Trial& trial,
                        int64_t max_tokens) {
  const CostModel cost(model, machine, *trial.plan);
  TrialPrediction sum;
  for (const Step& step : trial_steps(trial, max_tokens)) {
    const TaskGraph graph = lower(model, *trial.plan, step);
    const Timeline timeline = simulate(model, *trial.plan, graph, cost);
    const Interval interval = interval_90(graph, cost, timeline);
    sum.seconds += timeline.makespan_s;
    sum.interval.low_s += interval.low_s;
    sum.interval.high_s += interval.high_s;
  }
  return sum;
}

double TrialRuns::median_s() const { return median(counted_s.empty() ? left_out_s : counted_s); }

double TrialRuns::spread() const {
  std::vector<double> sorted = counted_s.empty() ? left_out_s : counted_s;
  if (sorted.size() < 2) return 0;
  std::sort(sorted.begin(), sorted.end());
  const auto quantile = [&](double q) {
    const double at = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(at);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below], sorted[above], at - static_cast<double>(below));
  };
  return (quantile(0.75) - quantile(0.25)) / quantile(0.5);
}

StateGate::StateGate(const MachineProfile& profile)
    : probe_(profile.machine), expected_(profile.conditions) {}

bool StateGate::matches() {
  if (expected_.probe.dram_read_per_s <= 0) return true;
  last_ = probe_.measure();
  state_ = classify(last_, expected_.probe.dram_read_per_s);
  return same_state(last_, expected_.probe);
}

bool StateGate::await(double seconds) {
  const auto start = std::chrono::steady_clock::now();
  bool same = matches();
  while (!same && seconds_since(start) < seconds) same = matches();
  return same;
}

std::vector<TrialRuns> run_trials(Executor& executor, const ModelSpec& model,
                                  const std::vector<Trial>& trials, StateGate& gate,
                                  const TrialOptions& options) {
  std::vector<TrialRuns> runs(trials.size());
  const auto start = std::chrono::steady_clock::now();
  bool before = gate.matches();
  double dram_before = gate.last_probe().dram_read_per_s;
  double last_counted_s = 0;
  for (bool missing = true; missing;) {
    missing = false;
    for (size_t i = 0; i < trials.size(); ++i) {
      const double now_s = seconds_since(start);
      const bool late = now_s > options.max_seconds || now_s - last_counted_s > options.patience_s;
      if (!wants_run(runs[i], static_cast<size_t>(options.repeat), late)) continue;
      if (!before && !late) {
        before = gate.await(kWaitSeconds);
        dram_before = gate.last_probe().dram_read_per_s;
      }
      const double seconds = run_once(executor, model, trials[i], options.max_tokens);
      const bool after = gate.matches();
      (before && after ? runs[i].counted_s : runs[i].left_out_s).push_back(seconds);
      const double dram_after = gate.last_probe().dram_read_per_s;
      if (before && after) {
        runs[i].dram_read_per_s.push_back((dram_before + dram_after) / 2);
        last_counted_s = seconds_since(start);
      }
      before = after;
      dram_before = dram_after;
      missing = true;
      if (options.progress) options.progress(share_done(runs, options.repeat), trials[i].label);
    }
  }
  return runs;
}

}  // namespace tandem
