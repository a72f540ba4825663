// Probes of how fast a unit reads memory and cache.
#include <algorithm>
#include <functional>
#include <span>

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

/// Reads of the unit's memory, as long as the link copies or at least once, in a step at whose end
/// streamed weights are multiplied or not: copies begin with the step.
double stream_slowdown(UnitBench& bench) {
  const auto nothing = [] {};
  const auto read = [&bench] {
    bench.device->read_all(bench.memory->kv.get(), bench.memory->kv_bytes / 16 * 16);
  };
  const std::function<int64_t()> stream = streaming_over_link(bench);
  const double copies_s = bench.time(nothing, stream, 1), read_s = bench.time(read, 1);
  const int reads = std::max(1, static_cast<int>(copies_s / read_s));
  const double alone_s = reads * bench.time(read, reads);
  const std::span<int64_t> stamps = bench.exchanged->stamps;
  const auto read_beside = [&] {
    for (int i = 0; i < reads; ++i) read();
    bench.device->stamp(&stamps[2]);
    stream();
  };
  bench.time(nothing, read_beside, 1);
  const double beside_s = 1e-9 * static_cast<double>(stamps[2] - stamps[0]);
  return 1 + excess_s(beside_s, alone_s) / std::min(alone_s, copies_s);
}

/// Rate at which weights come over the unit's link while they are multiplied, and what that does to
/// others.
void add_stream_cases(UnitBench& bench, std::vector<Case>& cases) {
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
  cases.push_back({.what = bench.profile->unit.name + " memory read beside its stream",
                   .run = [&bench](int) { return stream_slowdown(bench); },
                   .figure = &bench.profile->stream_slowdown,
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
    if (bench.memory->streamed != nullptr) add_stream_cases(bench, cases);
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
