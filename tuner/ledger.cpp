#include "tuner/ledger.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace tandem {
namespace {

/// The entry of a stage on a unit, inserted in order where it is new.
LedgerEntry& entry_of(std::vector<LedgerEntry>& entries, Stage stage, int unit, Home home) {
  const auto key_of = [](const LedgerEntry& e) { return std::tuple(e.stage, e.unit, e.home); };
  const auto key = std::tuple(stage, unit, home);
  const auto at =
      std::lower_bound(entries.begin(), entries.end(), key,
                       [&](const LedgerEntry& e, const auto& k) { return key_of(e) < k; });
  if (at != entries.end() && key_of(*at) == key) return *at;
  return *entries.insert(at, LedgerEntry{.stage = stage, .unit = unit, .home = home});
}

}  // namespace

void Ledger::add(const TaskGraph& graph, const Timeline& timeline) {
  num_units = graph.num_units;
  steps += 1;
  makespan_s += timeline.makespan_s;
  for (const Span& span : timeline.spans) {
    const Task& task = graph.tasks[static_cast<size_t>(span.task)];
    LedgerEntry& entry = entry_of(entries, task.stage, task.unit, task.home);
    entry.tasks += 1;
    entry.busy_s += span.end_s - span.start_s;
    entry.bytes += task.bytes;
    entry.flops += task.flops;
  }
}

void Ledger::add(const Ledger& other) {
  num_units = other.num_units;
  steps += other.steps;
  makespan_s += other.makespan_s;
  for (const LedgerEntry& more : other.entries) {
    LedgerEntry& entry = entry_of(entries, more.stage, more.unit, more.home);
    entry.tasks += more.tasks;
    entry.busy_s += more.busy_s;
    entry.bytes += more.bytes;
    entry.flops += more.flops;
  }
}

double Ledger::busy_s(int unit) const {
  double sum = 0;
  for (const LedgerEntry& entry : entries)
    if (entry.unit == unit && entry.stage != Stage::kCopy) sum += entry.busy_s;
  return sum;
}

double Ledger::utilisation(int unit) const {
  return makespan_s > 0 ? busy_s(unit) / makespan_s : 0;
}

double Ledger::sync_share() const {
  std::set<int> working;
  for (const LedgerEntry& entry : entries) working.insert(entry.unit);
  if (working.empty()) return 0;
  double sum = 0;
  for (const int unit : working) sum += utilisation(unit);
  return 1 - sum / static_cast<double>(working.size());
}

}  // namespace tandem
