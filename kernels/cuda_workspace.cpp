#include "kernels/cuda_workspace.h"

#include <algorithm>

namespace tandem::cuda {
namespace {

constexpr int64_t kAlign = kPlaneAlign;
constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
// With the library's workspace scratch is at most 64 MiB.
constexpr int64_t kInputBytes = 16 << 20;
constexpr int64_t kTileBytes = 32 << 20;

}  // namespace

InputBytes input_bytes(int64_t tokens, int64_t k) {
  return {.floats = round_up(tokens * k * kFloatBytes, kAlign),
          .quants = round_up(tokens * k, kAlign),
          .scales = round_up(tokens * div_up(k, 32) * kFloatBytes, kAlign)};
}

ProductPieces product_pieces(int64_t tokens, int64_t k, int64_t columns) {
  const int64_t row = 2 * round_up(k, 8);  // halves, whole 16 bytes of them
  const int64_t most_input = std::max(kInputBytes, kTileTokens * row);
  const int64_t most_tile = std::max(kTileBytes, kColumnAlign * row);
  const int64_t most_columns = most_tile / row / kColumnAlign * kColumnAlign;
  const int64_t count = std::max<int64_t>(1, div_up(columns, most_columns));
  return {.tokens = std::min(tokens, most_input / row),
          .columns = round_up(div_up(columns, count), kColumnAlign),  // of about one size
          .input_bytes = round_up(std::min(tokens * row, most_input), kAlign),
          .tile_bytes = std::min(round_up(columns, kColumnAlign) * row, most_tile)};
}

int64_t prefill_scratch_bytes(int64_t tokens, int64_t k, int64_t columns) {
  const InputBytes few = input_bytes(kTileTokens, k);  // without the library tokens go by tiles
  return std::max(product_pieces(tokens, k, columns).bytes(), few.quants + few.scales);
}

int64_t attention_scratch_bytes(int64_t tokens, int64_t heads, int64_t head_dim,
                                int64_t max_context) {
  const int64_t few = std::min(tokens, kTileTokens);
  const int64_t chunks = div_up(max_context + few, kAttentionChunk);
  return few * heads * chunks * (round_up(head_dim, 16) + 2) * kFloatBytes;
}

CudaWorkspace cuda_workspace(const DeviceLimits& limits) {
  const int64_t tokens = limits.tokens;
  CudaWorkspace space;
  space.inputs = input_bytes(tokens, limits.k).all();
  int64_t products = tokens * 3 * limits.heads * limits.head_dim;  // qkv: k, v are no wider than q
  if (tokens > kTileTokens) {
    const int64_t columns = std::min(limits.columns, kProductColumns);
    products = std::max(products, 2 * tokens * columns);  // gate and up
    space.prefill = prefill_scratch_bytes(tokens, limits.k, columns);
  }
  space.products = products * kFloatBytes;
  space.chunk_states =
      attention_scratch_bytes(tokens, limits.heads, limits.head_dim, limits.context);
  return space;
}

}  // namespace tandem::cuda
