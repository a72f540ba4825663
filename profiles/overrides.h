// `--set path=value`: one what-if edit of a machine profile.
#pragma once

#include <string>

#include "profiles/machine_profile.h"

namespace tandem {

/// The profile with `path=value` set as if it stood in its file: dotted keys, items of a list by
/// position or by name
/// (`units.cpu0`, `links.cpu0-cpu1`, `contention.cpu0+cpu1`). A number of cores
/// (`units.cpu0.cores=8`) scales what was measured, see what_if.h. The fingerprint stays: plans of
/// the measured machine can be asked about. Error naming what exists where the path leads nowhere,
/// and for a value that a file may not hold.
MachineProfile with_override(const MachineProfile& profile, const std::string& override);

}  // namespace tandem
