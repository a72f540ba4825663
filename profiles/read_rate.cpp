#include "profiles/read_rate.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/memory.h"
#include "kernels/range.h"
#include "profiles/pinned.h"

namespace tandem {
namespace {

/// Between two looks at the clock: 3 us of a fast cache.
constexpr int64_t kPieceBytes = 256 << 10;

/// Reads on for `seconds`; bytes/s.
double read_region(ReadRegion& region, double seconds) {
  const double start_s = steady_now_s();
  int64_t bytes = 0;
  double elapsed_s = 0;
  uint64_t sum = 0;
  while (elapsed_s < seconds) {
    const int64_t piece = std::min(kPieceBytes, region.bytes - region.next);
    sum += region.kernels->read(region.data.get() + region.next, piece);
    region.next = (region.next + piece) % region.bytes;
    bytes += piece;
    elapsed_s = steady_now_s() - start_s;
  }
  // The bytes are all zero; using the sum keeps the reads.
  return static_cast<double>(bytes + static_cast<int64_t>(sum)) / elapsed_s;
}

std::vector<int> cores_of(std::span<ReadRegion* const> regions) {
  std::vector<int> cores;
  for (const ReadRegion* region : regions) cores.push_back(region->core);
  return cores;
}

}  // namespace

std::vector<ReadRegion> make_read_regions(const std::vector<int>& cores, std::string_view isa,
                                          int64_t bytes) {
  const int64_t share = round_up(div_up(bytes, static_cast<int64_t>(cores.size())), 64);
  std::vector<ReadRegion> regions;
  for (const int core : cores)
    regions.push_back({core, &kernel_set(isa), map_memory(share), share, 0});
  run_pinned(cores,
             [&](size_t i) { std::memset(regions[i].data.get(), 0, static_cast<size_t>(share)); });
  return regions;
}

double read_rate(std::span<ReadRegion* const> regions, double seconds) {
  std::vector<double> rates(regions.size());
  run_pinned(cores_of(regions), [&](size_t i) { rates[i] = read_region(*regions[i], seconds); });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

double read_rate(std::span<ReadRegion> regions, double seconds) {
  std::vector<ReadRegion*> pointers;
  for (ReadRegion& region : regions) pointers.push_back(&region);
  return read_rate(pointers, seconds);
}

}  // namespace tandem
