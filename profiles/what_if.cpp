#include "profiles/what_if.h"

#include <algorithm>
#include <cmath>

#include "kernels/dtype.h"

namespace tandem {
namespace {

UnitProfile& find(MachineProfile& profile, const std::string& name) {
  return *std::find_if(profile.units.begin(), profile.units.end(),
                       [&](const UnitProfile& unit) { return unit.unit.name == name; });
}

/// The most bytes/s that was measured for units of this memory, alone or together.
double memory_capacity(const MachineProfile& profile, const std::string& memory) {
  double capacity = 0;
  const auto reads = [&](const std::string& name) {
    return std::any_of(profile.units.begin(), profile.units.end(), [&](const UnitProfile& unit) {
      return unit.unit.name == name && unit.unit.memory == memory;
    });
  };
  for (const UnitProfile& unit : profile.units)
    if (unit.unit.memory == memory) capacity = std::max(capacity, unit.dram_read_per_s.median);
  for (const Contention& set : profile.contention)
    if (std::all_of(set.units.begin(), set.units.end(), reads))
      capacity = std::max(capacity, set.total_per_s.median);
  return capacity;
}

/// `bytes_per_x` of a call come from memory; 0 = none do.
void scale_curve(Curve& curve, double speedup, double bytes_per_x, double memory_per_s) {
  for (CurvePoint& point : curve.points) {
    // A measured time below that of its bytes means that they came from the cache: it is no roof.
    const double roof = std::min(point.y.median, point.x * bytes_per_x / memory_per_s);
    point.y.median = std::max(point.y.median / speedup, roof);
  }
}

void scale_unit(UnitProfile& unit, double speedup, double memory_per_s) {
  unit.dram_read_per_s.median = memory_per_s;
  unit.cache_read_per_s.median *= speedup;
  for (LinearCurve& curve : unit.linear) {
    scale_curve(curve.from_dram, speedup, 1, memory_per_s);
    scale_curve(curve.from_cache, speedup, 0, memory_per_s);
  }
  for (AttentionCurve& curve : unit.attention) {
    const double bytes_per_position =
        2.0 * static_cast<double>(row_bytes(curve.kv_dtype, curve.head_dim));
    scale_curve(curve.seconds, speedup, bytes_per_position, memory_per_s);
  }
}

void set_cores(MachineProfile& profile, Unit& unit, int cores) {
  int next = 0;
  for (const int core : profile.machine.cores) next = std::max(next, core + 1);
  while (static_cast<int>(unit.cores.size()) < cores) {
    profile.machine.cores.push_back(next);
    unit.cores.push_back(next++);
  }
  unit.cores.resize(static_cast<size_t>(cores));
}

void set_barrier(const MachineProfile& profile, UnitProfile& unit, int cores) {
  double handoff_s = profile.conditions.probe.handoff_s;
  for (const Link& link : profile.links)
    if (link.from == unit.unit.name) handoff_s = std::max(handoff_s, link.latency_s.median);
  const double tree_s = 2 * handoff_s * std::ceil(std::log2(cores));
  unit.barrier_s.median = std::max(unit.barrier_s.median, tree_s);
}

void limit_contention(MachineProfile& profile) {
  for (Contention& set : profile.contention) {
    double alone_per_s = 0;
    for (const std::string& name : set.units)
      alone_per_s += is_link_name(name)
                         ? find(profile, std::string(unit_of_link(name))).stream_per_s.median
                         : find(profile, name).dram_read_per_s.median;
    set.total_per_s.median = std::min(set.total_per_s.median, alone_per_s);
  }
}

}  // namespace

MachineProfile with_cores(MachineProfile profile, const std::string& name, int cores) {
  UnitProfile& unit = find(profile, name);
  const double speedup = static_cast<double>(cores) / static_cast<double>(unit.unit.cores.size());
  const double capacity = memory_capacity(profile, unit.unit.memory);
  scale_unit(unit, speedup, std::min(unit.dram_read_per_s.median * speedup, capacity));
  set_cores(profile, unit.unit, cores);
  set_barrier(profile, unit, cores);
  limit_contention(profile);
  return profile;
}

}  // namespace tandem
