// What whole-model benches ask of the machine and of the figures they take. One place for how a
// median is taken.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/kernel_set.h"
#include "kernels/team.h"
#include "profiles/topology.h"

namespace tandem {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

inline double median(const std::vector<double>& values) { return quantile(values, 0.5); }

/// Interquartile range over the median.
inline double spread(const std::vector<double>& values) {
  return (quantile(values, 0.75) - quantile(values, 0.25)) / median(values);
}

/// Bytes/s of one read of `memory` by all cores, each its own part.
inline double read_all(const std::vector<int>& cores, const std::byte* memory, int64_t bytes) {
  const int64_t part = bytes / std::ssize(cores) / 4096 * 4096;
  Team team(cores, false);
  team.wake();
  std::vector<uint64_t> sums(cores.size());
  const auto start = Clock::now();
  team.run([&](int worker) {
    sums[static_cast<size_t>(worker)] = kernel_set("").read(memory + worker * part, part);
  });
  const double seconds = seconds_since(start);
  return static_cast<double>(part * std::ssize(cores)) / seconds;
}

/// Operations/s of all cores at once on what their registers hold.
inline double peak_of_all(const std::vector<int>& cores, ActivationFormat format) {
  constexpr int64_t kRounds = 1 << 20;
  Team team(cores, false);
  team.wake();
  std::vector<double> operations(cores.size());
  const auto start = Clock::now();
  team.run([&](int worker) {
    operations[static_cast<size_t>(worker)] = kernel_set("").peak(format, kRounds);
  });
  double sum = 0;
  for (const double n : operations) sum += n;
  return sum / seconds_since(start);
}

/// One unit of all cores.
inline Unit whole_unit(const std::vector<int>& cores) {
  return {.name = "cpu0", .kind = UnitKind::kCpu, .cores = cores, .isa = "", .memory = "dram0"};
}

}  // namespace tandem
