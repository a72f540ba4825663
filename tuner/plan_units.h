// Names the units of a plan anew, so that plans made over different units run on one executor.
#pragma once

#include <string>
#include <vector>

#include "sim/plan.h"

namespace tandem {

/// The same placement with `units` as Plan::units. Error `where: ...` for a unit that is not among
/// them. Units that the plan did not have get nothing.
Plan with_units(Plan plan, const std::vector<std::string>& units, const std::string& where);

/// Indices of the units that have any columns, heads or the embedding, ascending.
std::vector<int> working_units(const Plan& plan);
/// The same placement on only those units, so that no idle one is driven beside them.
Plan without_idle_units(Plan plan);

}  // namespace tandem
