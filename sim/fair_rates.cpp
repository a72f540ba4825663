#include "sim/fair_rates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace tandem {
namespace {

uint64_t bit(int lane) { return uint64_t{1} << lane; }

/// The level at which demands, cut to it, add up to the capacity; `demands` exceed it together and
/// are sorted here.
double fair_level(std::span<double> demands, double capacity) {
  std::sort(demands.begin(), demands.end());
  size_t left = demands.size();
  for (const double demand : demands) {
    const double share = capacity / static_cast<double>(left);
    if (demand > share) return share;
    capacity -= demand;
    --left;
  }
  return demands.back();
}

void share_memory(const CostModel& cost, std::span<Running> running, int memory) {
  const auto draws = [&](const Running& task) {
    return task.demand_per_s > 0 && cost.memory_of(task.lane) == memory;
  };
  std::array<double, 64> demands{};
  size_t count = 0;
  uint64_t mask = 0;
  double sum = 0;
  for (const Running& task : running) {
    if (!draws(task)) continue;
    demands[count++] = task.demand_per_s * task.rate;
    sum += task.demand_per_s * task.rate;
    mask |= bit(task.lane);
  }
  if (count < 2) return;
  const double capacity = cost.capacity_per_s(mask);
  if (sum <= capacity) return;
  const double level = fair_level(std::span(demands).first(count), capacity);
  for (Running& task : running)
    if (draws(task)) task.rate = std::min(task.rate, level / task.demand_per_s);
}

}  // namespace

void share_rates(const CostModel& cost, std::span<Running> running) {
  uint64_t active = 0, memories = 0;
  for (const Running& task : running) {
    active |= bit(task.lane);
    memories |= bit(cost.memory_of(task.lane));
  }
  const double slowdown = std::popcount(active) < 2 ? 1 : cost.compute_slowdown(active);
  for (Running& task : running) {
    if (cost.is_link(task.lane)) {
      task.rate = 1;
      continue;
    }
    const bool copies = (active & bit(cost.link_of(task.lane))) != 0;
    task.rate = 1 / (slowdown * (copies ? cost.stream_slowdown(task.lane) : 1));
  }
  for (int memory = 0; memories >> memory; ++memory) share_memory(cost, running, memory);
}

}  // namespace tandem
