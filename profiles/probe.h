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
  double limit_s =
      0;  ///< wall time to spend, 0 = what `quick` says; each curve has a point at least
  int64_t max_tokens = 512;  ///< wider steps are not measured
  std::function<void(double fraction, const std::string& what)> progress;
};

MachineProfile profile_machine(const Machine& machine, const std::vector<Unit>& units,
                               const ProfileOptions& options);

/// Opens the device of a unit.
std::unique_ptr<Device> open_device(const Unit& unit, bool yield = false);

/// The state probe, before and after every measurement: hand-off between the first two cores and a
/// 20 ms read of memory by all of `cores`.
class StateProbe {
 public:
  explicit StateProbe(const std::vector<int>& cores);
  ~StateProbe();
  Probe measure();

 private:
  struct State;
  std::unique_ptr<State> state_;
};
/// "near", "far" (hand-off over 200 ns) or "stolen" (bandwidth under 60 % of the reference).
std::string classify(const Probe& probe, double reference_dram_per_s);

}  // namespace tandem
