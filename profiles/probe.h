// Measures a machine: times the kernels that the runtime calls, through Device, repeated and
// interleaved.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "profiles/machine_profile.h"

namespace tandem {

struct ProfileOptions {
  bool quick = false;         ///< <= 15 s instead of <= 90 s (two units, two cores)
  std::vector<DType> dtypes;  ///< empty = all
  /// Wall time to spend, all of it; each curve has a point at least. 0 = what `quick` says, or
  /// until every figure has its samples.
  double limit_s = 0;
  int64_t max_tokens = 512;  ///< wider steps are not measured
  std::function<void(double fraction, const std::string& what)> progress;
};

MachineProfile profile_machine(const Machine& machine, const std::vector<Unit>& units,
                               const ProfileOptions& options);

/// Opens the device of a unit.
std::unique_ptr<Device> open_device(const Unit& unit, bool yield = false);

/// Memory to walk over so that reads come from DRAM: eight times the last-level cache, which keeps
/// up to a third of what is three times its size (not every cache replaces what is oldest). Less
/// where the machine is small.
int64_t beyond_cache_bytes(const Machine& machine);

/// The state probe, before and after every measurement (50 ms): hand-off between the first two
/// cores, a read of memory by all cores and by one, and arithmetic on each.
class StateProbe {
 public:
  explicit StateProbe(const Machine& machine);
  ~StateProbe();
  Probe measure();

 private:
  struct State;
  std::unique_ptr<State> state_;
};
/// Whether a machine that was probed is in the state of the reference: the same kind of hand-off,
/// and every rate within 10 %. A core whose sibling thread others use keeps three quarters of its
/// speed, for a second or so, one that is given to somebody else half. Figures of one state may be
/// compared.
bool same_state(const Probe& probe, const Probe& reference);
/// "near", "far" (hand-off over 200 ns) or "stolen" (bandwidth under 60 % of the reference).
std::string classify(const Probe& probe, double reference_dram_per_s);

}  // namespace tandem
