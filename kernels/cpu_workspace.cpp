#include "kernels/cpu_workspace.h"

namespace tandem {
namespace {

constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
/// Room to begin at a cache line.
constexpr int64_t kLineBytes = 64;
/// Paths hold the wider of the caches' dtypes.
constexpr int64_t kWidestElement = 4;

}  // namespace

CpuWorkspace cpu_workspace(const DeviceLimits& limits) {
  CpuWorkspace space;
  for (const ActivationFormat format :
       {ActivationFormat::kF32, ActivationFormat::kBF16, ActivationFormat::kQ8})
    space.prepared[static_cast<size_t>(format)] =
        limits.tokens * activation_row_bytes(format, limits.k) + kLineBytes;
  const int64_t state = limits.head_dim + 2;
  const int64_t chunks = div_up(limits.context + kTileTokens, kAttentionChunk) + 1;
  space.chunk_states = limits.heads * std::min(limits.tokens, kTileTokens) * chunks * state;
  space.normed = limits.k;
  space.tile = kMostTokensAtOnce * kMaxTileColumns;
  space.attention = kAttentionScratchFloats;
  space.states = kTileRows * state;
  const int64_t path_rows = round_up(limits.tokens, kPanelColumns) + kPanelColumns;
  space.path_k = path_rows * limits.head_dim * kWidestElement + kLineBytes;
  space.path_v = path_rows * round_up(limits.head_dim, 16) * kWidestElement + kLineBytes;
  return space;
}

int64_t CpuWorkspace::bytes(int64_t workers) const {
  const int64_t of_worker = (normed + tile + attention + states) * kFloatBytes + path_k + path_v;
  return prepared[0] + prepared[1] + prepared[2] + chunk_states * kFloatBytes + workers * of_worker;
}

}  // namespace tandem
