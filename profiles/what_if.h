// A machine that does not exist: a measured one with more or fewer cores in a unit.
#pragma once

#include "profiles/machine_profile.h"

namespace tandem {

/// The profile with `cores` cores in unit `unit`, N = cores / measured cores (a roofline; Williams
/// et al. 2009):
/// - reads of memory and cache become N times as fast, memory up to the most that was measured for
/// its units together;
/// - a linear or attention call takes 1/N of its time, but no less than its bytes take at the new
/// memory rate;
/// - an empty team call takes a hand-off each way per level of a tree over the cores;
/// - preparation, merge, commit, argmax and links stay as they are; contention falls with what its
/// units can read.
MachineProfile with_cores(MachineProfile profile, const std::string& unit, int cores);

}  // namespace tandem
