#include <fmt/format.h>

#include "kernels/error.h"
#include "profiles/probe.h"

namespace tandem {

std::unique_ptr<Device> open_device(const Unit& unit, bool yield) {
  if (unit.kind == UnitKind::kCuda)
    throw Error(fmt::format("unit {}: this build has no CUDA devices", unit.name));
  return open_cpu_device({.cores = unit.cores, .isa = unit.isa, .yield = yield});
}

}  // namespace tandem
