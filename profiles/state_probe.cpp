// The probe that tells in which state a (virtual) machine is.
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/kernel_set.h"
#include "kernels/memory.h"
#include "profiles/handoff.h"
#include "profiles/measure.h"
#include "profiles/pinned.h"
#include "profiles/probe.h"
#include "profiles/read_rate.h"

namespace tandem {
namespace {

constexpr double kReadSeconds = 20e-3;
constexpr double kCoreReadSeconds = 8e-3;
constexpr size_t kCoresReadAlone = 2;
constexpr double kFarHandoffSeconds = 200e-9;
/// Hand-offs of one kind differ by less than this factor on either side of the limit.
constexpr double kSameHandoff = 1.5;
constexpr double kStolenShare = 0.6;
constexpr double kComputeSeconds = 4e-3;
constexpr double kSameRate = 0.1;

/// An F32 linear kernel over one panel that stays in a core's cache.
class ComputeLoad {
 public:
  ComputeLoad() : memory_(map_memory(kBytes)) {}  // zeros: no kernel's time depends on the values

  /// flop/s of the calling thread.
  double rate() const {
    float* panel = reinterpret_cast<float*>(memory_.get());
    float* x = panel + kK * kPanelColumns;
    const LinearTile tile{.dtype = DType::kF32,
                          .panels = memory_.get(),
                          .num_panels = 1,
                          .k = kK,
                          .x = {.base = x, .row_bytes = kK * 4, .k = kK},
                          .tokens = kTileTokens,
                          .y = x + kTileTokens * kK,
                          .y_stride = kPanelColumns};
    const KernelSet& kernels = kernel_set("");
    const double start_s = steady_now_s();
    double elapsed_s = 0, calls = 0;
    for (; elapsed_s < kComputeSeconds; elapsed_s = steady_now_s() - start_s, ++calls)
      kernels.linear(tile);
    return calls * 2 * kK * kPanelColumns * kTileTokens / elapsed_s;
  }

 private:
  static constexpr int64_t kK = 256;
  static constexpr int64_t kBytes =
      4 * (kK * kPanelColumns + kTileTokens * kK + kTileTokens * kPanelColumns);
  std::shared_ptr<std::byte[]> memory_;
};

bool far(const Probe& probe) { return probe.handoff_s > kFarHandoffSeconds; }

bool same_handoff(double a, double b) { return std::max(a, b) < kSameHandoff * std::min(a, b); }

/// A rate that one of the two does not know is like any other.
bool same_rate(double rate, double reference) {
  return rate == 0 || reference == 0 || std::abs(rate / reference - 1) <= kSameRate;
}

}  // namespace

struct StateProbe::State {
  std::vector<int> cores;
  std::vector<ReadRegion> regions;
  std::vector<ComputeLoad> loads;  ///< per core
};

StateProbe::StateProbe(const Machine& machine)
    : state_(std::make_unique<State>(
          machine.cores, make_read_regions(machine.cores, "", beyond_cache_bytes(machine)),
          std::vector<ComputeLoad>(machine.cores.size()))) {}

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
  const size_t readers = std::min(kCoresReadAlone, state_->regions.size());
  for (size_t i = 0; i < readers; ++i)
    probe.core_read_per_s += read_rate(std::span(&state_->regions[i], 1), kCoreReadSeconds) /
                             static_cast<double>(readers);
  probe.compute_per_s.resize(state_->cores.size());
  run_pinned(state_->cores, [&](size_t i) { probe.compute_per_s[i] = state_->loads[i].rate(); });
  return probe;
}

bool same_state(const Probe& probe, const Probe& reference) {
  const size_t cores = std::min(probe.compute_per_s.size(), reference.compute_per_s.size());
  return (far(probe) == far(reference) || same_handoff(probe.handoff_s, reference.handoff_s)) &&
         same_rate(probe.dram_read_per_s, reference.dram_read_per_s) &&
         same_rate(probe.core_read_per_s, reference.core_read_per_s) &&
         std::equal(probe.compute_per_s.begin(),
                    probe.compute_per_s.begin() + static_cast<std::ptrdiff_t>(cores),
                    reference.compute_per_s.begin(), same_rate);
}

std::string classify(const Probe& probe, double reference_dram_per_s) {
  if (probe.dram_read_per_s < kStolenShare * reference_dram_per_s) return "stolen";
  return far(probe) ? "far" : "near";
}

}  // namespace tandem
