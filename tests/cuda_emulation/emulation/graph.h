// Replay of captured graphs: the orders in which a graph's nodes are executed, one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "emulation/capture.h"

namespace cuda_emulation {

enum class SideBranches : uint8_t { kAsCaptured, kEarly, kLate };

/// A topological order. What the capture's own stream does, and every wait on and write of a flag,
/// keeps the order of the calls; other branches are executed as early or as late as their edges
/// allow, so that a missing edge shows and no wait is moved before what it waits for.
std::vector<size_t> order_of(const CUgraph_st& graph, SideBranches side_branches);

/// What an executable graph is; lives until its last launch is done.
struct Replay {
  std::vector<std::function<void()>> operations;
  std::array<std::vector<size_t>, 3> orders;  ///< taken in turns
  size_t launches = 0;
  std::mutex running;  ///< one launch at a time, on whatever streams
  void run();
};

}  // namespace cuda_emulation

struct CUgraphExec_st {
  std::shared_ptr<cuda_emulation::Replay> replay;
};
