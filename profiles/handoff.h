// What it takes to hand a flag from one core to another.
#pragma once

namespace tandem {

/// One way, in seconds: the mean over `round_trips` between two pinned threads that spin on a cache
/// line each. Where the two cores are one, the threads yield to each other.
double handoff_s(int core_a, int core_b, int round_trips);

}  // namespace tandem
