// The scratch of a CUDA unit: how much of it a step needs, and what happens where it needs more.
#include <algorithm>
#include <utility>

#include "kernels/cuda_device.cuh"
#include "kernels/kernel_set.h"

namespace tandem::cuda {

/// Scratch of at least `bytes`. What is queued or recorded goes on in the memory it had before.
std::byte* CudaDevice::grow(Buffer& buffer, int64_t bytes) {
  if (bytes <= buffer.bytes) return buffer.memory.get();
  Bytes memory = device_memory(options_.index, bytes);
  retired_.push_back(std::exchange(buffer.memory, std::move(memory)));
  buffer.bytes = bytes;
  return buffer.memory.get();
}

float* CudaDevice::grow_floats(Buffer& buffer, int64_t floats) {
  return reinterpret_cast<float*>(grow(buffer, floats * static_cast<int64_t>(sizeof(float))));
}

/// Room for all forms of an input.
Prepared CudaDevice::input_scratch(int64_t tokens, int64_t k) {
  constexpr int64_t kAlign = 256;
  const int64_t floats = round_up(tokens * k * 4, kAlign);
  const int64_t quants = round_up(tokens * k, kAlign);
  const int64_t blocks = round_up(tokens * div_up(k, 32) * 4, kAlign);
  std::byte* base = grow(inputs_, floats + quants + 2 * blocks);
  return {.x = reinterpret_cast<float*>(base),
          .quants = reinterpret_cast<int8_t*>(base + floats),
          .scales = reinterpret_cast<float*>(base + floats + quants),
          .sums = reinterpret_cast<int32_t*>(base + floats + quants + blocks)};
}

/// Null where the machine has no such library. Opened when it is needed: that takes a while.
Blas* CudaDevice::blas() {
  if (!std::exchange(blas_opened_, true)) blas_ = open_blas();
  return blas_;
}

void CudaDevice::reserve(const DeviceLimits& limits) {
  on_device([&] {
    TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream()));
    queue_.forget();  // they hold the scratch that there was
    limits_ = limits;
    const int64_t tokens = limits.tokens, few = std::min(tokens, kTileTokens);
    input_scratch(tokens, limits.k);
    int64_t floats = tokens * 3 * limits.heads * limits.head_dim;  // qkv: k, v are no wider than q
    if (tokens > kTileTokens) {
      blas();
      const int64_t columns = std::min(widest_, kProductColumns);
      floats = std::max(floats, 2 * tokens * columns);  // gate and up
      grow(prefill_, prefill_scratch_bytes(tokens, limits.k, columns));
    }
    grow_floats(products_, floats);
    const auto states = [&](int64_t n) {
      return attention_scratch_bytes(n, limits.heads, limits.head_dim, limits.context);
    };
    grow(chunk_states_, std::max(states(few), states(tokens)));
    retired_.clear();
    loader_.rest();
  });
}

int64_t CudaDevice::workspace_bytes() const {
  return inputs_.bytes + products_.bytes + prefill_.bytes + chunk_states_.bytes + copies_.bytes() +
         exchanged_.bytes();
}

}  // namespace tandem::cuda
