// How fast cores read memory: a region per core, walked round and round.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/kernel_set.h"

namespace tandem {

/// Memory that one core reads, first touched by it.
struct ReadRegion {
  int core = 0;
  const KernelSet* kernels = nullptr;
  std::shared_ptr<std::byte[]> data;
  int64_t bytes = 0;
  int64_t next =
      0;  ///< where the next read goes on, so that a long region is never found in a cache
};

/// `bytes` shared out between the cores.
std::vector<ReadRegion> make_read_regions(const std::vector<int>& cores, std::string_view isa,
                                          int64_t bytes);

/// Bytes/s of all the regions' cores reading at once for `seconds`. The cores must differ.
double read_rate(std::span<ReadRegion* const> regions, double seconds);
double read_rate(std::span<ReadRegion> regions, double seconds);

}  // namespace tandem
