// A small machine profile with round numbers, for tests. Nothing in it was measured.
#pragma once

#include "profiles/machine_profile.h"

namespace tandem {

/// Two 1-core units, cpu0 and cpu1, on one memory: alone 40e9 and 30e9 bytes/s, together 50e9.
inline MachineProfile sample_profile() {
  const Curve linear{{{1000, {1e-6, 0.01}}, {1e6, {25e-6, 0.02}}}};
  const Curve cached{{{1000, {0.5e-6, 0.01}}, {1e6, {10e-6, 0.02}}}};
  UnitProfile unit;
  unit.unit = {"cpu0", UnitKind::kCpu, {0}, "generic", "dram0"};
  unit.dram_read_per_s = {40e9, 0.02};
  unit.cache_read_per_s = {100e9, 0.03};
  unit.linear = {{DType::kQ4_0, 1, linear, cached}, {DType::kQ4_0, 16, linear, cached}};
  unit.prepare = {{DType::kQ4_0, {{{2048, {0.3e-6, 0.1}}}}}};
  unit.attention = {{DType::kF16, 64, 4, 1, {{{4, {1e-6, 0}}, {4096, {40e-6, 0.05}}}}}};
  unit.embed = unit.merge = unit.commit = unit.argmax = {{{1024, {0.125e-6, 0}}}};
  unit.barrier_s = {50e-9, 0.1};

  MachineProfile profile;
  profile.machine = {.name = "test-2c",
                     .cpu = "A \"quoted\" CPU",
                     .cores = {0, 1},
                     .caches = {{1, 32768, 1}, {3, 1 << 25, 2}},
                     .memory_bytes = int64_t{1} << 34,
                     .isas = "avx2,generic",
                     .kernel = "6.1.0"};
  profile.fingerprint = "0123456789abcdef";
  profile.date = "2026-11-23T12:00:00Z";
  profile.tool_version = "0.1.0";
  profile.conditions = {"near", {100e-9, 50e9}, 3};
  profile.units = {unit, unit};
  profile.units[1].unit.name = "cpu1";
  profile.units[1].unit.cores = {1};
  profile.units[1].dram_read_per_s = {30e9, 0.02};
  profile.links = {{"cpu0", "cpu1", {100e-9, 0.1}}, {"cpu1", "cpu0", {110e-9, 0.1}}};
  profile.contention = {
      {{"cpu0", "cpu1"}, {50e9, 0.01}, {{DType::kQ8_0, {0.95, 0.01}}}, {1.25, 0.02}}};
  return profile;
}

}  // namespace tandem
