// Probes of units at work at once: the bandwidth that they share, and what computing costs then.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>
#include <utility>

#include "kernels/range.h"
#include "profiles/probe_bench.h"
#include "profiles/walk.h"

namespace tandem {
namespace {

using Benches = std::vector<UnitBench*>;

const Unit& unit_of(const UnitBench* bench) { return bench->profile->unit; }

/// Whether no core is in two of the units.
bool independent(const Benches& benches) {
  std::set<int> seen;
  for (const UnitBench* bench : benches)
    for (const int core : unit_of(bench).cores)
      if (!seen.insert(core).second) return false;
  return true;
}

/// Something that a unit can be kept busy with; returns the bytes of weights it read.
using Work = std::function<int64_t()>;

/// Calls and bytes of `work` per second.
struct Pace {
  double calls_per_s = 0;
  double bytes_per_s = 0;
};

/// Calls made at once, and the bytes that they read.
struct Batch {
  int64_t calls = 0;
  int64_t bytes = 0;
};

/// Does one call of `work`; a unit that enqueues records a few and runs them again and again.
std::function<Batch()> batches(UnitBench& bench, Work work) {
  if (!bench.device->enqueues()) return [work = std::move(work)] { return Batch{1, work()}; };
  constexpr int64_t kCalls = 4;
  return
      [&bench, work = std::move(work), batch = Batch{}, recording = ++bench.recordings]() mutable {
        if (!bench.device->begin_step(recording))
          for (batch = {}; batch.calls < kCalls; ++batch.calls) batch.bytes += work();
        bench.device->launch();
        bench.device->end_step();
        return batch;
      };
}

/// Repeats `work` on the unit's driver for `seconds` from `start_s` on.
std::future<double> start_working(UnitBench& bench, Work work, double start_s, double seconds,
                                  Pace& pace) {
  return bench.driver.start([&bench, work = std::move(work), start_s, seconds, &pace] {
    const bool awake = !bench.device->enqueues();  // such a unit's batches are steps
    if (awake) bench.device->begin_step();
    const std::function<Batch()> run = batches(bench, work);
    run();
    while (steady_now_s() < start_s) {
    }
    const double begin_s = steady_now_s();
    double elapsed_s = 0;
    Batch done;
    for (; elapsed_s < seconds; elapsed_s = steady_now_s() - begin_s) {
      const Batch batch = run();
      done = {done.calls + batch.calls, done.bytes + batch.bytes};
    }
    if (awake) bench.device->end_step();
    bench.device->forget_recordings();
    pace = {static_cast<double>(done.calls) / elapsed_s,
            static_cast<double>(done.bytes) / elapsed_s};
    return elapsed_s;
  });
}

constexpr double kStartUpSeconds = 3e-3;  // a warm-up call and a thread that wakes

/// Paces of all units working at once for `seconds`, the i-th at work_of(i).
std::vector<Pace> work_together(const Benches& benches, double seconds,
                                const std::function<Work(size_t)>& work_of) {
  std::vector<Pace> paces(benches.size());
  std::vector<std::future<double>> ends;
  const double start_s = steady_now_s() + kStartUpSeconds;
  for (size_t i = 0; i < benches.size(); ++i)
    ends.push_back(start_working(*benches[i], work_of(i), start_s, seconds, paces[i]));
  for (const std::future<double>& end : ends) end.wait();
  for (std::future<double>& end : ends) end.get();
  return paces;
}

/// Something that a unit computes.
Work computing(const UnitBench& bench) {
  return [&bench] {
    run_compute(bench);
    return int64_t{0};
  };
}

/// Units that work, beside `links` of others that copy.
struct LinkSet {
  Benches units, links;

  Benches all() const {
    Benches benches = units;
    benches.insert(benches.end(), links.begin(), links.end());
    return benches;
  }
  /// work_of() of all(), where the units do `work`.
  std::function<Work(size_t)> with(const std::function<Work(UnitBench&)>& work) const {
    return [this, work](size_t i) {
      return i < units.size() ? work(*units[i]) : streaming_over_link(*links[i - units.size()]);
    };
  }
};

/// Mean over the units of their rate alone over their rate while all compute and the links copy.
/// Each rate is the best of some windows, alone and together in turn: what a core loses to its host
/// is no slowdown.
double compute_slowdown(const LinkSet& set) {
  constexpr int kWindows = 3;
  constexpr double kWindowSeconds = 2e-3;
  const Benches all = set.all();
  std::vector<double> alone(set.units.size()), together(set.units.size());
  for (int window = 0; window < kWindows; ++window) {
    for (size_t i = 0; i < set.units.size(); ++i) {
      const LinkSet one{{set.units[i]}, {}};
      const Pace pace = work_together(one.units, kWindowSeconds, one.with(computing)).front();
      alone[i] = std::max(alone[i], pace.calls_per_s);
    }
    const std::vector<Pace> paces = work_together(all, kWindowSeconds, set.with(computing));
    for (size_t i = 0; i < set.units.size(); ++i)
      together[i] = std::max(together[i], paces[i].calls_per_s);
  }
  double sum = 0;
  for (size_t i = 0; i < set.units.size(); ++i) sum += alone[i] / together[i];
  return sum / static_cast<double>(set.units.size());
}

constexpr double kStreamSeconds = 6e-3;
constexpr int64_t kStreamColumns = 1024;
constexpr double kLaneReadSeconds = 5e-3;

bool enqueues(const UnitBench* bench) { return bench->device->enqueues(); }

/// Reads of the unit's memory, on and on. Units that share it begin apart: see streaming().
Work reading(UnitBench& bench, const Benches& together) {
  const auto index = std::find(together.begin(), together.end(), &bench) - together.begin();
  const double from = static_cast<double>(index) / static_cast<double>(together.size());
  const int64_t all = bench.memory->kv_bytes / 16 * 16;
  const int64_t piece = enqueues(&bench) ? all : std::min<int64_t>(all, 16 << 20);
  const auto start = static_cast<int64_t>(from * static_cast<double>(all)) / 64 * 64;
  return [&bench, all, piece, walk = Walk(start)]() mutable {
    bench.device->read_all(bench.memory->kv.get() + walk.next(piece, all), piece);
    return piece;
  };
}

double sum_of_bytes(const std::vector<Pace>& paces) {
  double sum = 0;
  for (const Pace& pace : paces) sum += pace.bytes_per_s;
  return sum;
}

/// Bytes/s of bare reads of all units at once. Units that share a core take turns on it: they read
/// like one of them.
double total_read_rate(const Benches& benches) {
  if (std::any_of(benches.begin(), benches.end(), enqueues))
    return sum_of_bytes(work_together(benches, kLaneReadSeconds,
                                      [&](size_t i) { return reading(*benches[i], benches); }));
  std::vector<ReadRegion*> regions;
  double sum = 0;
  for (UnitBench* bench : benches) {
    for (ReadRegion& region : bench->dram) regions.push_back(&region);
    if (!independent(benches)) sum += read_rate(bench->dram, kLaneReadSeconds);
  }
  return independent(benches) ? read_rate(regions, kLaneReadSeconds)
                              : sum / static_cast<double>(benches.size());
}

/// Columns of a call of each unit, so that all need equally long while all stream: kStreamColumns
/// of the fastest.
std::vector<int64_t> equal_columns(const std::vector<Pace>& paces) {
  double fastest = 0;
  for (const Pace& pace : paces) fastest = std::max(fastest, pace.bytes_per_s);
  std::vector<int64_t> columns;
  for (const Pace& pace : paces)
    columns.push_back(
        round_up(static_cast<int64_t>(kStreamColumns * pace.bytes_per_s / fastest), kColumnAlign));
  return columns;
}

/// Bytes/s of units that stream weights in step: none begins a call before all have ended the last,
/// as in the stages of a layer, so that what holds one up holds up all.
double rate_in_step(const Benches& benches, const std::vector<Work>& works, int64_t calls) {
  const size_t n = benches.size();
  // [call % 2][from][to]: a unit may end its next call before another has seen the end of this one.
  std::vector<Flag> ended(2 * n * n);
  const auto flag = [&](int64_t call, size_t from, size_t to) -> Flag& {
    return ended[(static_cast<size_t>(call % 2) * n + from) * n + to];
  };
  std::vector<int64_t> bytes(n);
  std::vector<std::future<double>> times;
  const double start_s = steady_now_s() + kStartUpSeconds;
  for (size_t i = 0; i < n; ++i)
    times.push_back(benches[i]->driver.start([&, i] {
      Device& device = *benches[i]->device;
      device.begin_step();
      works[i]();
      while (steady_now_s() < start_s) {
      }
      for (int64_t call = 0; call < calls; ++call) {
        bytes[i] += works[i]();
        for (size_t other = 0; other < n; ++other)
          if (other != i) device.raise(flag(call, i, other));
        for (size_t other = 0; other < n; ++other)
          if (other != i) device.wait(flag(call, other, i));
      }
      const double seconds = steady_now_s() - start_s;
      device.end_step();
      return seconds;
    }));
  double slowest_s = 0;
  for (std::future<double>& time : times) slowest_s = std::max(slowest_s, time.get());
  return static_cast<double>(std::accumulate(bytes.begin(), bytes.end(), int64_t{0})) / slowest_s;
}

/// What all units streaming weights through a linear kernel at once reach of what bare reads do
/// right before. The ratio stays where the memory's speed drifts.
double stream_share(const Benches& benches, DType dtype) {
  const double bare_per_s = total_read_rate(benches);
  const auto work_of = [&](size_t i, int64_t columns) {
    const double from = static_cast<double>(i) / static_cast<double>(benches.size());
    return streaming(*benches[i], dtype, columns, from);
  };
  const std::vector<Pace> paces =
      work_together(benches, kStreamSeconds, [&](size_t i) { return work_of(i, kStreamColumns); });
  const double free_per_s = sum_of_bytes(paces);
  // A unit that enqueues has its own memory, and hides the start of a call behind the one before.
  if (std::any_of(benches.begin(), benches.end(), enqueues)) return free_per_s / bare_per_s;
  const std::vector<int64_t> columns = equal_columns(paces);
  std::vector<Work> works;
  for (size_t i = 0; i < benches.size(); ++i) works.push_back(work_of(i, columns[i]));
  const auto call_bytes =
      std::accumulate(columns.begin(), columns.end(), int64_t{0}) * row_bytes(dtype, kBenchK);
  const auto calls = static_cast<int64_t>(kStreamSeconds * free_per_s) / call_bytes + 1;
  return rate_in_step(benches, works, calls) / bare_per_s;
}

/// Every pair, and all where there are more than two.
std::vector<Benches> sets_of(const std::vector<std::unique_ptr<UnitBench>>& benches) {
  std::vector<Benches> sets;
  for (size_t a = 0; a < benches.size(); ++a)
    for (size_t b = a + 1; b < benches.size(); ++b)
      sets.push_back({benches[a].get(), benches[b].get()});
  if (benches.size() > 2) {
    sets.emplace_back();
    for (const auto& bench : benches) sets.back().push_back(bench.get());
  }
  return sets;
}

void add_set(const Benches& set, Contention& contention, std::vector<Case>& cases) {
  const bool apart = independent(set);
  std::string names;
  for (const UnitBench* bench : set) names += (names.empty() ? "" : "+") + unit_of(bench).name;
  cases.push_back({.what = names + " memory read",
                   .run = [set](int) { return total_read_rate(set); },
                   .figure = &contention.total_per_s,
                   .repeats = false});
  // Units that share a core compute at half the speed, and their streams find no gaps to fill.
  cases.push_back(
      {.what = names + " compute",
       .run =
           [set, apart](int) {
             return apart ? compute_slowdown({set, {}}) : static_cast<double>(set.size());
           },
       .figure = &contention.compute_slowdown,
       .repeats = false});
  if (!apart) return;
  for (const auto& [dtype, weights] : set.front()->memory->weights)
    contention.streams.push_back({dtype, {}});
  for (StreamShare& stream : contention.streams)
    cases.push_back({.what = fmt::format("{} streams {}", names, name(stream.dtype)),
                     .run = [set, dtype = stream.dtype](int) { return stream_share(set, dtype); },
                     .figure = &stream.share,
                     .repeats = false});
}

/// Every CPU unit with every link, and all CPU units with all links where these are more.
std::vector<LinkSet> link_sets_of(const std::vector<std::unique_ptr<UnitBench>>& benches) {
  LinkSet all;
  for (const auto& bench : benches) {
    if (!enqueues(bench.get())) all.units.push_back(bench.get());
    if (bench->memory->streamed != nullptr) all.links.push_back(bench.get());
  }
  std::vector<LinkSet> sets;
  for (UnitBench* unit : all.units)
    for (UnitBench* link : all.links) sets.push_back({{unit}, {link}});
  if (sets.size() > 1) sets.push_back(all);
  return sets;
}

/// Bytes/s of bare reads and of copies over links, all together.
double total_link_rate(const LinkSet& set) {
  return sum_of_bytes(work_together(set.all(), kLaneReadSeconds, set.with([&](UnitBench& bench) {
    return reading(bench, set.units);
  })));
}

void add_link_set(const LinkSet& set, Contention& contention, std::vector<Case>& cases) {
  std::string names;
  for (const UnitBench* bench : set.units) contention.units.push_back(unit_of(bench).name);
  for (const UnitBench* bench : set.links)
    contention.units.push_back(unit_of(bench).name + std::string(kStreamedSuffix));
  for (const std::string& name : contention.units) names += (names.empty() ? "" : "+") + name;
  cases.push_back({.what = names + " compute",
                   .run = [set](int) { return compute_slowdown(set); },
                   .figure = &contention.compute_slowdown,
                   .repeats = false});
  cases.push_back({.what = names + " memory read",
                   .run = [set](int) { return total_link_rate(set); },
                   .figure = &contention.total_per_s,
                   .repeats = false});
}

}  // namespace

void add_contention_cases(const std::vector<std::unique_ptr<UnitBench>>& benches,
                          MachineProfile& profile, std::vector<Case>& cases) {
  const std::vector<Benches> sets = sets_of(benches);
  const std::vector<LinkSet> link_sets = link_sets_of(benches);
  profile.contention.resize(sets.size() + link_sets.size());
  for (size_t i = 0; i < link_sets.size(); ++i)
    add_link_set(link_sets[i], profile.contention[sets.size() + i], cases);
  for (size_t i = 0; i < sets.size(); ++i) {
    for (const UnitBench* bench : sets[i])
      profile.contention[i].units.push_back(unit_of(bench).name);
    add_set(sets[i], profile.contention[i], cases);
  }
}

}  // namespace tandem
