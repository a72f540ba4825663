// A machine profile out of a YAML tree, checked. Where the tree comes from is the caller's
// business.
#pragma once

#include "profiles/checked_yaml.h"
#include "profiles/machine_profile.h"

namespace tandem {

/// Error for what is missing, unknown, of the wrong type, not positive or not ascending.
MachineProfile profile_of(const CheckedYaml& root);

}  // namespace tandem
