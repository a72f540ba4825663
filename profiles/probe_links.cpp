// Probes of links: hand-offs between units, and copies of results into a memory of their own.
#include <array>
#include <span>

#include "kernels/memory.h"
#include "profiles/handoff.h"
#include "profiles/probe_bench.h"

namespace tandem {
namespace {

constexpr int kRoundTrips = 100;

/// Each flag is raised and lowered once, as in a step. flags[2 i] is raised for the side that
/// began trip i.
constexpr int kFlags = 2 * kRoundTrips;

/// One side's trips; seconds from the end of the first to the end of the last.
double play(UnitBench& bench, std::span<Flag> flags, bool begins) {
  Device& device = *bench.device;
  const std::span<int64_t> stamps = bench.exchanged->stamps;
  device.begin_step(++bench.recordings);
  for (size_t i = 0; i < flags.size(); i += 2) {
    if (begins) device.raise(flags[i + 1]);
    device.wait(flags[begins ? i : i + 1]);
    if (!begins) device.raise(flags[i]);
    if (i == 0) device.stamp(&stamps[0]);
  }
  device.stamp(&stamps[1]);
  device.launch();
  device.end_step();
  device.forget_recordings();
  return 1e-9 * static_cast<double>(stamps[1] - stamps[0]);
}

/// One way of a flag between two units, where one of them enqueues: as recorded steps wait and
/// raise.
double queued_handoff_s(UnitBench& from, UnitBench& to) {
  const auto bytes = static_cast<int64_t>(kFlags * sizeof(Flag));
  const std::shared_ptr<std::byte[]> memory = map_memory(bytes);
  const std::shared_ptr<void> shares[] = {from.device->share(memory.get(), bytes),
                                          to.device->share(memory.get(), bytes)};
  const std::span<Flag> flags(reinterpret_cast<Flag*>(memory.get()), kFlags);
  const auto start = [flags](UnitBench& bench, bool begins) {
    return bench.driver.start([&bench, flags, begins] {
      try {
        return play(bench, flags, begins);
      } catch (...) {
        for (Flag& flag : flags) flag.cancel();  // the other side waits for them
        throw;
      }
    });
  };
  std::future<double> there = start(from, true), back = start(to, false);
  back.wait();
  const double seconds = there.get();
  back.get();
  return seconds / (2 * (kRoundTrips - 1));
}

/// From a row of one token to a prompt's.
constexpr std::array<int64_t, 4> kCopiedBytes{4 << 10, 64 << 10, 1 << 20, 4 * kBenchFloats};

/// Copies of results, from the memory of `from` where `to` can read that.
void add_copy_cases(UnitBench& from, UnitBench& to, Link& link, std::vector<Case>& cases) {
  link.direct = to.device->connect(*from.device);
  const std::span<float> results = (link.direct ? from : to).exchanged->input;
  auto* const data = reinterpret_cast<std::byte*>(results.data());
  const std::shared_ptr<void> share =
      link.direct ? to.device->share(data, kCopiedBytes.back()) : nullptr;
  for (const int64_t bytes : kCopiedBytes)
    link.copy.points.push_back({static_cast<double>(bytes), {}});
  for (size_t i = 0; i < kCopiedBytes.size(); ++i) {
    const int64_t bytes = kCopiedBytes[i];
    const Block block{.data = data, .rows = 1, .bytes = bytes, .stride = bytes};
    const auto copy = [&from, &to, block, share] {
      if (share != nullptr) {
        to.device->receive_from(*from.device, block);
      } else {
        to.device->receive(block);
      }
    };
    cases.push_back({.what = link.from + " to " + link.to + " copy",
                     .run = [&to, copy](int repetitions) { return to.time(copy, repetitions); },
                     .figure = &link.copy.points[i].y});
  }
}

void add_link(UnitBench& from, UnitBench& to, Link& link, std::vector<Case>& cases) {
  const int a = from.profile->unit.cores.front(), b = to.profile->unit.cores.front();
  const bool queued = from.device->enqueues() || to.device->enqueues();
  cases.push_back(
      {.what = link.from + " to " + link.to,
       .run = [&from, &to, a, b,
               queued](int) { return queued ? queued_handoff_s(from, to) : handoff_s(a, b, 1000); },
       .figure = &link.latency_s,
       .repeats = false});
  if (copies_results(to)) add_copy_cases(from, to, link, cases);
}

}  // namespace

void add_link_cases(const std::vector<std::unique_ptr<UnitBench>>& benches, MachineProfile& profile,
                    std::vector<Case>& cases) {
  profile.links.reserve(benches.size() * benches.size());
  for (const auto& from : benches)
    for (const auto& to : benches) {
      if (from == to) continue;
      profile.links.push_back({from->profile->unit.name, to->profile->unit.name, {}, {}});
      add_link(*from, *to, profile.links.back(), cases);
    }
}

}  // namespace tandem
