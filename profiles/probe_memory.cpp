// Probes of how fast a unit reads memory and cache.
#include "profiles/probe_bench.h"

namespace tandem {

namespace {

/// Rate at which a unit that enqueues reads `bytes` of its memory, once a call or again and again.
Case queued_read(UnitBench& bench, const char* what, int64_t bytes, Figure& figure) {
  const auto work = [&bench, bytes] { bench.device->read_all(bench.memory->kv.get(), bytes); };
  return {.what = bench.profile->unit.name + what,
          .run = [&bench, work,
                  bytes](int) { return static_cast<double>(bytes) / bench.time(work, 4); },
          .figure = &figure,
          .repeats = false};
}

/// Rate at which weights come over the unit's link while they are multiplied.
void add_stream_case(UnitBench& bench, std::vector<Case>& cases) {
  constexpr int kCalls = 4;
  const auto run = [&bench, stream = streaming_over_link(bench)](int) {
    int64_t bytes = 0;
    const double seconds = bench.time([&] { bytes = stream(); }, kCalls);
    return static_cast<double>(bytes) / seconds;
  };
  cases.push_back({.what = bench.profile->unit.name + " stream",
                   .run = run,
                   .figure = &bench.profile->stream_per_s,
                   .repeats = false});
}

}  // namespace

void add_memory_cases(UnitBench& bench, std::vector<Case>& cases) {
  constexpr double kSeconds = 10e-3;
  UnitProfile& profile = *bench.profile;
  if (bench.device->enqueues()) {
    cases.push_back(queued_read(bench, " memory read", bench.memory->kv_bytes / 16 * 16,
                                profile.dram_read_per_s));
    cases.push_back(queued_read(bench, " cache read", bench.cache_bytes, profile.cache_read_per_s));
    if (bench.memory->streamed != nullptr) add_stream_case(bench, cases);
    return;
  }
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
