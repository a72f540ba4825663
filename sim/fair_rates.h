// How fast tasks of several units go while they run at once: shared clocks, then shared memories.
#pragma once

#include <span>

#include "sim/cost.h"

namespace tandem {

/// A task in progress; at most one per lane (see lane_of()).
struct Running {
  int lane = 0;
  double demand_per_s = 0;  ///< bytes/s of its memory that it draws when alone
  double rate = 1;          ///< of its speed alone, set by share_rates()
};

/// Sets the rates. Every unit is slowed by the compute slowdown of the lanes that are active, and
/// by its own link's copies; where the demands that are left on one memory exceed the capacity of
/// the lanes that draw on it, they share it max-min fairly (Bertsekas and Gallager 1992, sec.
/// 6.5.2). Memory slows no lane that draws on it alone: its measured time is its capacity.
void share_rates(const CostModel& cost, std::span<Running> running);

}  // namespace tandem
