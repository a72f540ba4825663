// How much scratch a CPU unit needs for steps within some limits: what reserve() makes, and what a
// plan counts before there is a device.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/kernel_set.h"

namespace tandem {

/// Columns that a worker takes at once, at least: as many as stay in the L2 where their weights are
/// read again for the next tokens. (Last pieces of 16 cost 1 % of a token.)
inline constexpr int64_t kPieceColumns = 64;
/// Raw dot products of a piece whose weights are read once: as many as stay in the L1. Between two
/// pieces the stream of weights stands still for half a microsecond to a whole one. (Zen 4, two
/// cores with an L3 each, one token, step of pieces of 64 columns over that of 256, 1024: Q4_K
/// 1.09, 1.12, Q6_K 1.10, 1.14, Q4_0 1.05, 1.07, BF16 1.02, 1.02; with one L3 half of that.)
inline constexpr int64_t kPieceDots = 4096;
/// Columns of a worker's tile of dot products, for kMostTokensAtOnce.
inline constexpr int64_t kMaxTileColumns = std::max(2 * kPieceColumns, kMaxHeadDim);
/// So few that one worker would prepare them while the others wait: each prepares them for itself
/// instead, and reads no other's lines. (Zen 4, two cores, one token of Q4_0: 1.011 times as fast
/// on cores that share an L3, 1.044 times where they do not: 90 inputs took 190 and 590 us.)
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
