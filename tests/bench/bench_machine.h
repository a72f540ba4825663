// What whole-model benches ask of the machine.
#pragma once

#include <cstdint>
#include <iterator>
#include <vector>

#include "kernels/kernel_set.h"
#include "kernels/team.h"
#include "profiles/pinned.h"
#include "profiles/topology.h"

namespace tandem {

/// Bytes/s of one read of `memory` by all cores, each its own part.
inline double read_all(const std::vector<int>& cores, const std::byte* memory, int64_t bytes) {
  const int64_t part = bytes / std::ssize(cores) / 4096 * 4096;
  Team team(cores, false);
  team.wake();
  std::vector<uint64_t> sums(cores.size());
  const double start_s = steady_now_s();
  team.run([&](int worker) {
    sums[static_cast<size_t>(worker)] = kernel_set("").read(memory + worker * part, part);
  });
  const double seconds = steady_now_s() - start_s;
  return static_cast<double>(part * std::ssize(cores)) / seconds;
}

/// Operations/s of all cores at once on what their registers hold.
inline double peak_of_all(const std::vector<int>& cores, ActivationFormat format) {
  constexpr int64_t kRounds = 1 << 20;
  Team team(cores, false);
  team.wake();
  std::vector<double> operations(cores.size());
  const double start_s = steady_now_s();
  team.run([&](int worker) {
    operations[static_cast<size_t>(worker)] = kernel_set("").peak(format, kRounds);
  });
  const double seconds = steady_now_s() - start_s;
  double sum = 0;
  for (const double n : operations) sum += n;
  return sum / seconds;
}

/// One unit of all cores.
inline Unit whole_unit(const std::vector<int>& cores) {
  return {.name = "cpu0", .kind = UnitKind::kCpu, .cores = cores, .isa = "", .memory = "dram0"};
}

}  // namespace tandem
