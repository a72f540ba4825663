// Probes of how fast a unit reads memory and cache.
#include "profiles/probe_bench.h"

namespace tandem {

void add_memory_cases(UnitBench& bench, std::vector<Case>& cases) {
  constexpr double kSeconds = 10e-3;
  UnitProfile& profile = *bench.profile;
  const auto rate = [](std::vector<ReadRegion>& regions) {
    return [&regions](int) { return read_rate(regions, kSeconds); };
  };
  cases.push_back({.what = profile.unit.name + " memory read",
                   .run = rate(bench.dram),
                   .figure = &profile.dram_read_per_s,
                   .repeats = false});
  cases.push_back({.what = profile.unit.name + " cache read",
                   .run = rate(bench.cache),
                   .figure = &profile.cache_read_per_s,
                   .repeats = false});
}

}  // namespace tandem
