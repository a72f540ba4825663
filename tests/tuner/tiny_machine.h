// Machines for tests: every time is in proportion to its bytes, so that optima can be derived by
// hand.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "profiles/machine_profile.h"

namespace tandem {

/// A curve through the origin: seconds = fixed_s + x / per_s at both ends, which a log
/// interpolation keeps where fixed_s is 0.
inline Curve line(double per_s, double fixed_s = 0) {
  Curve curve;
  for (double x = 1; x < 1e13; x *= 4) curve.points.push_back({x, {fixed_s + x / per_s, 0.01}});
  return curve;
}

struct TinyUnit {
  std::string name;
  double decode_per_s = 1e9;   ///< weight bytes/s of a step of one token
  double prefill_per_s = 1e9;  ///< weight bytes/s of a step of 64 tokens
  std::string memory = {};     ///< "" = its own
  double fixed_s = 0;          ///< of every linear task
};

inline UnitProfile tiny_unit(const TinyUnit& tiny) {
  UnitProfile profile;
  profile.unit.name = tiny.name;
  profile.unit.memory = tiny.memory.empty() ? "memory of " + tiny.name : tiny.memory;
  profile.dram_read_per_s = {tiny.decode_per_s, 0.01};
  profile.cache_read_per_s = {tiny.decode_per_s, 0.01};
  profile.linear.push_back({DType::kF32, 1, line(tiny.decode_per_s, tiny.fixed_s), {}});
  profile.linear.push_back({DType::kF32, 64, line(tiny.prefill_per_s, tiny.fixed_s), {}});
  profile.attention.push_back({DType::kF16, 16, 2, 1, line(tiny.decode_per_s / 64)});
  profile.attention.push_back({DType::kF16, 16, 2, 64, line(tiny.prefill_per_s / 64)});
  profile.embed = profile.merge = profile.commit = profile.argmax = line(1e12);
  return profile;
}

inline MachineProfile tiny_machine(const std::vector<TinyUnit>& units, double handoff_s = 0) {
  MachineProfile machine;
  machine.machine.name = "tiny";
  machine.machine.memory_bytes = int64_t{1} << 40;
  for (const TinyUnit& unit : units) machine.units.push_back(tiny_unit(unit));
  for (const TinyUnit& from : units)
    for (const TinyUnit& to : units)
      if (from.name != to.name) machine.links.push_back({from.name, to.name, {handoff_s, 0}});
  return machine;
}

}  // namespace tandem
