// machine.yaml: reading (checked) and writing of machine profiles.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "profiles/machine_profile.h"

namespace tandem {

/// Error: `machine.yaml:LINE: ...` for unknown keys, wrong types, non-positive or non-ascending
/// figures. Each override is `path=value` as in `units.cpu0.cores=8` (what-ifs; dotted keys, lists
/// by name or index).
MachineProfile read_profile(const std::string& path,
                            const std::vector<std::string>& overrides = {});
std::string profile_text(const MachineProfile& profile);
/// Writes to a temporary name and renames.
void write_profile(const MachineProfile& profile, const std::string& path);
/// Hash of machine, units and tool version.
std::string profile_fingerprint(const MachineProfile& profile);

}  // namespace tandem
