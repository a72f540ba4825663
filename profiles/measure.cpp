#include "profiles/measure.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "profiles/probe.h"

namespace tandem {
namespace {

constexpr int kPatience = 10;  ///< probes; most states last a second

struct Sample {
  size_t block;  ///< index into MeasuringLoop::blocks_
  double value;
};

/// What one case has come to so far.
struct CaseState {
  std::vector<Sample> samples;
  int repetitions = 0;    ///< 0 = not yet calibrated
  double first_call = 0;  ///< its value; cold
  bool left_out = false;
};

/// Samples taken between two probes of the machine.
struct ProbedBlock {
  Probe before, after;
};

double median(std::vector<double> values) { return figure_of(std::move(values)).median; }

class MeasuringLoop {
 public:
  MeasuringLoop(std::span<const Case> cases, const MeasureOptions& options)
      : cases_(cases), options_(options), start_s_(options.now_s()), states_(cases.size()) {}

  Conditions run() {
    open_block();
    do {
      run_round();
      choose_reference();
    } while (!out_of_time() && std::any_of(states_.begin(), states_.end(),
                                           [&](const CaseState& state) { return lacks(state); }));
    return finish();
  }

 private:
  double elapsed_s() const { return options_.now_s() - start_s_; }
  bool out_of_time() const { return elapsed_s() >= options_.limit_s; }

  bool lacks(const CaseState& state) const {
    return !state.left_out && good_samples(state).size() < static_cast<size_t>(options_.samples);
  }

  std::vector<double> good_samples(const CaseState& state) const {
    std::vector<double> values;
    for (const Sample& sample : state.samples)
      if (in_reference_[sample.block]) values.push_back(sample.value);
    return values;
  }

  bool begins_curve(size_t i) const {
    return i == 0 || cases_[i].curve < 0 || cases_[i].curve != cases_[i - 1].curve;
  }

  void run_round() {
    ++round_;
    for (size_t i = 0; i < cases_.size(); ++i) {
      // Whatever the limit, a curve gets its first point: a profile without one would be of no use.
      if (out_of_time() && (round_ > 1 || !begins_curve(i))) continue;
      if (states_[i].repetitions == 0 && !states_[i].left_out) calibrate(i);
      if (!lacks(states_[i])) continue;
      report(i);
      sample(i);
      if (options_.now_s() - block_start_s_ >= options_.probe_every_s) next_block();
    }
    next_block();
  }

  /// Where the first sample took more than twice as long as the cold call before it, a stall is in
  /// it, and it may be all that there is time for: two more make it one of three.
  void sample(size_t i) {
    CaseState& state = states_[i];
    const bool first = state.samples.empty();
    const auto take = [&] {
      state.samples.push_back({blocks_.size() - 1, cases_[i].run(state.repetitions)});
    };
    take();
    if (!first || !cases_[i].repeats || state.samples.back().value <= 2 * state.first_call) return;
    take();
    take();
  }

  /// Decides how often a sample repeats it.
  void calibrate(size_t i) {
    CaseState& state = states_[i];
    const double before_s = options_.now_s();
    const double value = state.first_call = cases_[i].run(1);
    const double once_s = cases_[i].repeats ? value : options_.now_s() - before_s;
    const double wanted = options_.shortest_sample_s / std::max(once_s, 1e-9);
    state.repetitions =
        cases_[i].repeats ? static_cast<int>(std::ceil(std::clamp(wanted, 1.0, 1e5))) : 1;
    if (once_s > options_.longest_sample_s && cases_[i].curve >= 0)
      for (size_t j = i + 1; j < cases_.size() && cases_[j].curve == cases_[i].curve; ++j)
        states_[j].left_out = true;
  }

  /// Where it is known which state counts, waits a little for the machine to come back to it.
  void open_block() {
    ProbedBlock block;
    block.before = blocks_.empty() ? options_.probe() : blocks_.back().after;
    for (int i = 0; i < kPatience && reference_ && !same_state(block.before, *reference_); ++i)
      block.before = options_.probe();
    blocks_.push_back(block);
    block_start_s_ = options_.now_s();
  }

  void next_block() {
    blocks_.back().after = options_.probe();
    open_block();
  }

  std::vector<char> blocks_like(const Probe& reference) const {
    std::vector<char> like;
    for (const ProbedBlock& block : blocks_)
      like.push_back(same_state(block.before, reference) && same_state(block.after, reference));
    return like;
  }

  /// Samples that the cases want and have among these blocks.
  int votes(const std::vector<char>& blocks) const {
    int sum = 0;
    for (const CaseState& state : states_) {
      int count = 0;
      for (const Sample& sample : state.samples) count += blocks[sample.block];
      sum += std::min(count, options_.samples);
    }
    return sum;
  }

  /// The state that gives the cases most of what they want, of those probed so far; it may change
  /// as more is known.
  void choose_reference() {
    blocks_.back().after = blocks_.back().before;  // still open and empty
    int most = -1;
    for (const ProbedBlock& block : blocks_) {
      std::vector<char> like = blocks_like(block.before);
      const int count = votes(like);
      if (count <= most) continue;
      most = count;
      in_reference_ = std::move(like);
      reference_ = block.before;
    }
  }

  void report(size_t i) const {
    if (!options_.progress) return;
    const double rounds =
        (round_ - 1 + static_cast<double>(i) / static_cast<double>(cases_.size())) /
        options_.samples;
    options_.progress(std::min(1.0, std::max(rounds, elapsed_s() / options_.limit_s)),
                      cases_[i].what);
  }

  Conditions finish() const {
    Conditions conditions;
    std::vector<double> rates;
    for (const ProbedBlock& block : blocks_) rates.push_back(block.before.dram_read_per_s);
    conditions.probe = reference_probe();
    conditions.state = classify(conditions.probe, median(std::move(rates)));
    for (size_t i = 0; i < cases_.size(); ++i) {
      std::vector<double> values = good_samples(states_[i]);
      if (values.empty() && !states_[i].samples.empty()) {
        ++conditions.measured_outside;
        for (const Sample& sample : states_[i].samples) values.push_back(sample.value);
      }
      if (!values.empty())
        *cases_[i].figure = cases_[i].repeats ? steady_figure_of(values) : figure_of(values);
    }
    return conditions;
  }

  /// Median of each figure over the blocks that count; over all where no two probes agreed.
  Probe reference_probe() const {
    const bool any =
        std::find(in_reference_.begin(), in_reference_.end(), 1) != in_reference_.end();
    std::vector<const Probe*> probes;
    for (size_t i = 0; i < blocks_.size(); ++i)
      if (!any || in_reference_[i]) probes.push_back(&blocks_[i].before);
    const auto median_of = [&](auto&& figure) {
      std::vector<double> values;
      for (const Probe* probe : probes) values.push_back(figure(*probe));
      return median(std::move(values));
    };
    Probe middle{median_of([](const Probe& p) { return p.handoff_s; }),
                 median_of([](const Probe& p) { return p.dram_read_per_s; }),
                 median_of([](const Probe& p) { return p.core_read_per_s; })};
    for (size_t core = 0; core < probes.front()->compute_per_s.size(); ++core)
      middle.compute_per_s.push_back(
          median_of([core](const Probe& p) { return p.compute_per_s[core]; }));
    return middle;
  }

  std::span<const Case> cases_;
  const MeasureOptions& options_;
  double start_s_;
  double block_start_s_ = 0;
  int round_ = 0;
  std::vector<CaseState> states_;
  std::vector<ProbedBlock> blocks_;
  std::optional<Probe> reference_;  ///< of the state that counts
  std::vector<char> in_reference_;  ///< [block] both its probes say the state that counts
};

}  // namespace

Figure figure_of(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto quantile = [&](double share) {
    const double at = share * static_cast<double>(samples.size() - 1);
    const auto below = static_cast<size_t>(at);
    const size_t above = std::min(below + 1, samples.size() - 1);
    return samples[below] + (at - static_cast<double>(below)) * (samples[above] - samples[below]);
  };
  const double middle = quantile(0.5);
  return {middle, middle > 0 ? (quantile(0.75) - quantile(0.25)) / middle : 0};
}

Figure steady_figure_of(const std::vector<double>& samples) {
  constexpr size_t kMostGroups = 5, kLeastInGroup = 3;
  Figure figure = figure_of(samples);
  const size_t groups = std::min(kMostGroups, samples.size() / kLeastInGroup);
  if (groups < 2) return figure;
  std::vector<double> sums(groups), counts(groups);
  for (size_t i = 0; i < samples.size(); ++i) {
    sums[i % groups] += samples[i];
    counts[i % groups] += 1;
  }
  for (size_t group = 0; group < groups; ++group) sums[group] /= counts[group];
  figure.median = figure_of(std::move(sums)).median;
  return figure;
}

Conditions measure(std::span<const Case> cases, const MeasureOptions& options) {
  return MeasuringLoop(cases, options).run();
}

}  // namespace tandem
