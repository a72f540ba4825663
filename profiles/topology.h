// What units this machine has, through hwloc, within the process's CPU affinity and cgroup limit.
#pragma once

#include <string>
#include <vector>

#include "profiles/machine_profile.h"

namespace tandem {

inline constexpr const char* kToolVersion = "0.1.0";

Machine detect_machine();
/// One unit per (NUMA node, core kind), named cpu0, cpu1, ...; one logical CPU per physical core.
std::vector<Unit> default_units(const Machine& machine);
/// `cpu0=0;cpu1=1,isa:avx2`: name=cores (`0-3,8`), then options. Error naming the piece that is
/// wrong. A core may be given to several units (then threads yield): the caller warns.
std::vector<Unit> parse_units(const std::string& text, const Machine& machine);

}  // namespace tandem
