// How much scratch a CPU unit needs for steps within some limits: what reserve() makes, and what a
// plan counts before there is a device.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/kernel_set.h"

namespace tandem {

/// Columns that a worker takes at once: few, since a worker waits for the other's last piece; not
/// fewer, since gate and up are two streams and each turn from one to the other costs about half a
/// microsecond (32 columns: 5 % of a step).
inline constexpr int64_t kPieceColumns = 64;
inline constexpr int64_t kMaxTileColumns = std::max(2 * kPieceColumns, kMaxHeadDim);

/// Sizes of the parts of CpuDevice's scratch, in elements.
struct CpuWorkspace {
  std::array<int64_t, 3> prepared{};  ///< bytes of prepared inputs, by ActivationFormat
  int64_t chunk_states = 0;           ///< floats
  // Of each worker:
  int64_t normed = 0;     ///< floats
  int64_t tile = 0;       ///< floats
  int64_t attention = 0;  ///< floats
  int64_t states = 0;     ///< floats
  int64_t path_k = 0;     ///< bytes
  int64_t path_v = 0;     ///< bytes

  int64_t bytes(int64_t workers) const;
};

CpuWorkspace cpu_workspace(const DeviceLimits& limits);

}  // namespace tandem
