// Names the units of a plan anew, so that plans made over different units run on one executor.
#pragma once

#include <string>
#include <vector>

#include "sim/plan.h"

namespace tandem {

/// The same placement with `units` as Plan::units. Error `where: ...` for a unit that is not among
/// them. Units that the plan did not have get nothing.
Plan with_units(Plan plan, const std::vector<std::string>& units, const std::string& where);

}  // namespace tandem
