// How much scratch a CPU unit needs for steps within some limits: what reserve() makes, and what a
// plan counts before there is a device.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/kernel_set.h"

namespace tandem {

/// Columns that a worker takes at once where their weights are read again for the next tokens, for
/// the most part from the L2; elsewhere at least so many. (Zen 4, two cores, one token of Q4_0 or
/// Q6_K: last pieces of 16 columns take 1 % of it more.)
inline constexpr int64_t kPieceColumns = 64;
/// Raw dot products of a piece whose weights are read once: as many as stay in the L1. Between two
/// pieces the stream of weights stands still for half a microsecond to a whole one. (Zen 4, two
/// cores with an L3 each, time of one token in pieces of 64 columns over that in pieces of 256, of
/// 1024: Q4_K 1.09, 1.12, Q6_K 1.10, 1.14, Q4_0 1.05, 1.07, BF16 1.02, 1.02; half of that gain with
/// one L3. 512 are within 1 % of 1024.)
inline constexpr int64_t kPieceDots = 4096;
/// Columns of a worker's tile of dot products, for kMostTokensAtOnce.
inline constexpr int64_t kMaxTileColumns = std::max(2 * kPieceColumns, kMaxHeadDim);
static_assert(kPieceDots <= kMostTokensAtOnce * kMaxTileColumns);
/// So few that one worker would prepare them while the others wait, who would then read from its
/// caches: each prepares them for itself instead. (Zen 4, two cores, one token of Q4_0, whose 90
/// inputs took one worker 190 us with one L3 and 590 us with an L3 each: 1.01 and 1.04 times as
/// fast. Not measured on larger teams.)
inline constexpr int64_t kOwnTokens = 2;

/// Sizes of the parts of CpuDevice's scratch, in elements.
struct CpuWorkspace {
  std::array<int64_t, 3> prepared{};  ///< bytes of prepared inputs, by ActivationFormat
  int64_t chunk_states = 0;           ///< floats
  // Of each worker:
  std::array<int64_t, 3> own_prepared{};  ///< as above, of kOwnTokens
  int64_t normed = 0;                     ///< floats
  int64_t tile = 0;                       ///< floats
  int64_t attention = 0;                  ///< floats
  int64_t states = 0;                     ///< floats
  int64_t path_k = 0;                     ///< bytes
  int64_t path_v = 0;                     ///< bytes

  int64_t bytes(int64_t workers) const;
};

CpuWorkspace cpu_workspace(const DeviceLimits& limits);

}  // namespace tandem
