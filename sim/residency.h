// Whether what a step reads of a memory stays in the last-level cache until the next step reads it
// again.
#pragma once

#include <cstdint>
#include <vector>

#include "profiles/machine_profile.h"
#include "sim/model_spec.h"
#include "sim/plan.h"

namespace tandem {

/// What a step reads of one memory must be below this many bytes to stay.
double resident_limit_bytes(const MachineProfile& machine);

/// Bytes of weights, keys and values that each unit reads in a decode step of the plan's workload.
/// How they divide is the plan's, their sum is the model's and the workload's.
std::vector<double> decode_bytes(const ModelSpec& model, const Plan& plan);

/// Plans that keep the same memories in cache, and so have the same costs.
struct ResidentCase {
  uint64_t memories = 0;  ///< bit m: what is read of memory m stays in cache
  double most_bytes = 0;  ///< that a plan of this case reads of each of these
};
/// The cases of all plans that read so many bytes in all from so many memories; at least one. With
/// more than kMostMemories only the two where all stay, or none does, without limit: since reading
/// from cache is no slower, a bound over the two still holds.
inline constexpr int kMostMemories = 4;
std::vector<ResidentCase> resident_cases(double all_bytes, double limit_bytes, int memories);

}  // namespace tandem
