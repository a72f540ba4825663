#include "kernels/cpu_workspace.h"

namespace tandem {
namespace {

constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
/// Room to begin at a cache line.
constexpr int64_t kLineBytes = 64;
/// Paths hold the wider of the caches' dtypes.
constexpr int64_t kWidestElement = 4;

/// By ActivationFormat.
std::array<int64_t, 3> prepared_bytes(int64_t tokens, int64_t k) {
  std::array<int64_t, 3> bytes{};
  for (const ActivationFormat format : kActivationFormats)
    bytes[static_cast<size_t>(format)] = tokens * activation_row_bytes(format, k) + kLineBytes;
  return bytes;
}

}  // namespace

CpuWorkspace cpu_workspace(const DeviceLimits& limits) {
  CpuWorkspace space;
  space.prepared = prepared_bytes(limits.tokens, limits.k);
  space.own_prepared = prepared_bytes(std::min(limits.tokens, kOwnTokens), limits.k);
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
  const auto sum = [](const std::array<int64_t, 3>& by_format) {
    return by_format[0] + by_format[1] + by_format[2];
  };
  const int64_t of_worker =
      sum(own_prepared) + (normed + tile + attention + states) * kFloatBytes + path_k + path_v;
  return sum(prepared) + chunk_states * kFloatBytes + workers * of_worker;
}

}  // namespace tandem
