// The probe that tells in which state a (virtual) machine is.
#include <cmath>

#include "profiles/handoff.h"
#include "profiles/measure.h"
#include "profiles/probe.h"
#include "profiles/read_rate.h"

namespace tandem {
namespace {

constexpr double kReadSeconds = 20e-3;
constexpr double kFarHandoffSeconds = 200e-9;
constexpr double kStolenShare = 0.6;
constexpr double kSameDram = 0.1;

}  // namespace

struct StateProbe::State {
  std::vector<int> cores;
  std::vector<ReadRegion> regions;
};

StateProbe::StateProbe(const Machine& machine)
    : state_(std::make_unique<State>(
          machine.cores, make_read_regions(machine.cores, "", beyond_cache_bytes(machine)))) {}

StateProbe::~StateProbe() = default;

Probe StateProbe::measure() {
  Probe probe;
  if (state_->cores.size() > 1) {
    // The median of short runs: one interrupt would spoil a long one.
    std::vector<double> runs;
    for (int i = 0; i < 5; ++i) runs.push_back(handoff_s(state_->cores[0], state_->cores[1], 300));
    probe.handoff_s = figure_of(std::move(runs)).median;
  }
  probe.dram_read_per_s = read_rate(state_->regions, kReadSeconds);
  return probe;
}

bool same_state(const Probe& probe, const Probe& reference) {
  const auto far = [](const Probe& p) { return p.handoff_s > kFarHandoffSeconds; };
  return far(probe) == far(reference) &&
         std::abs(probe.dram_read_per_s / reference.dram_read_per_s - 1) <= kSameDram;
}

std::string classify(const Probe& probe, double reference_dram_per_s) {
  if (probe.dram_read_per_s < kStolenShare * reference_dram_per_s) return "stolen";
  return probe.handoff_s > kFarHandoffSeconds ? "far" : "near";
}

}  // namespace tandem
