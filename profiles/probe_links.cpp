// Probes of links: hand-offs between units, and copies of results into a memory of their own.
#include "kernels/memory.h"
#include "profiles/handoff.h"
#include "profiles/probe_bench.h"

namespace tandem {
namespace {

/// One way of a flag between two units, where one of them enqueues: as recorded steps wait and
/// raise.
double queued_handoff_s(UnitBench& from, UnitBench& to) {
  constexpr int kRoundTrips = 100;
  const auto bytes = static_cast<int64_t>(2 * sizeof(Flag));
  const std::shared_ptr<std::byte[]> memory = map_memory(bytes);
  const std::shared_ptr<void> shares[] = {from.device->share(memory.get(), bytes),
                                          to.device->share(memory.get(), bytes)};
  Flag* flags = reinterpret_cast<Flag*>(memory.get());
  const auto play = [flags](UnitBench& bench, int side) {
    bench.device->begin_step(++bench.recordings);
    for (int i = 0; i < kRoundTrips; ++i) {
      if (side == 0) bench.device->raise(flags[1]);
      bench.device->wait(flags[side]);
      if (side == 1) bench.device->raise(flags[0]);
      if (i == 0) bench.device->stamp(&bench.exchanged->stamps[0]);
    }
    bench.device->stamp(&bench.exchanged->stamps[1]);
    bench.device->launch();
    bench.device->end_step();
    bench.device->forget_recordings();
    return 1e-9 * static_cast<double>(bench.exchanged->stamps[1] - bench.exchanged->stamps[0]);
  };
  std::future<double> there = from.driver.start([&] { return play(from, 0); });
  std::future<double> back = to.driver.start([&] { return play(to, 1); });
  back.wait();
  const double seconds = there.get();
  back.get();
  return seconds / (2 * (kRoundTrips - 1));
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
  if (!to.device->enqueues()) return;
  const auto bytes = static_cast<int64_t>(to.exchanged->input.size_bytes());
  const Block all{.data = reinterpret_cast<std::byte*>(to.exchanged->input.data()),
                  .rows = 1,
                  .bytes = bytes,
                  .stride = bytes};
  cases.push_back({.what = link.from + " to " + link.to + " copy",
                   .run =
                       [&to, all, bytes](int) {
                         const auto copy = [&] { to.device->receive(all); };
                         return static_cast<double>(bytes) / to.time(copy, 4);
                       },
                   .figure = &link.bytes_per_s,
                   .repeats = false});
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
