// Units of all kinds for tests of executors.
#pragma once

#include <sched.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "profiles/machine_profile.h"

namespace tandem {

/// The cores this process may use, as they were before an executor pinned its caller to one of
/// them.
inline const std::vector<int>& allowed_cores() {
  static const std::vector<int> cores = [] {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    std::vector<int> allowed;
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(static_cast<size_t>(core), &set)) allowed.push_back(core);
    return allowed;
  }();
  return cores;
}

/// Letters name the kinds: "cg" is a CPU unit and a CUDA unit, "u" a CUDA unit that shares the
/// host's memory. One core each, in turn: units spin on cores of their own, or yield where cores
/// are shared. CUDA units take the devices in turn. Emulated ones are threads that want a core,
/// too: beside them all units share one.
inline std::vector<Unit> units_of_kinds(const std::string& kinds, const std::string& isa = "") {
  const std::vector<int>& cores = allowed_cores();
  const std::vector<CudaDeviceInfo> listed = list_cuda_devices();
  const int devices = static_cast<int>(listed.size());
  const bool emulated = kinds.find_first_of("gu") != std::string::npos && !listed.empty() &&
                        listed.front().name.starts_with("emulated");
  std::vector<Unit> units;
  int cuda = 0;
  for (const char kind : kinds) {
    const size_t i = units.size();
    Unit unit{.name = kind + std::to_string(i),
              .kind = kind == 'c' ? UnitKind::kCpu : UnitKind::kCuda,
              .cores = {cores[(emulated ? 0 : i) % cores.size()]},
              .isa = isa,
              .memory = "dram0"};
    if (unit.kind == UnitKind::kCuda) {
      unit.index = cuda++ % devices;
      if (kind == 'g') unit.memory = unit.name;
    }
    units.push_back(unit);
  }
  return units;
}

inline std::vector<std::string> names_of(const std::vector<Unit>& units) {
  std::vector<std::string> names;
  for (const Unit& unit : units) names.push_back(unit.name);
  return names;
}

}  // namespace tandem
