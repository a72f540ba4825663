// The scratch of a CUDA unit: how much of it a step needs, and what happens where it needs more.
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
  const InputBytes bytes = input_bytes(tokens, k);
  std::byte* base = grow(inputs_, bytes.all());
  std::byte* quants = base + bytes.floats;
  return {.x = reinterpret_cast<float*>(base),
          .quants = reinterpret_cast<int8_t*>(quants),
          .scales = reinterpret_cast<float*>(quants + bytes.quants)};
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
    const CudaWorkspace space = cuda_workspace(limits);
    grow(inputs_, space.inputs);
    grow(products_, space.products);
    grow(prefill_, space.prefill);
    grow(chunk_states_, space.chunk_states);
    if (limits.tokens > kTileTokens) blas();
    retired_.clear();
    loader_.rest();
  });
}

int64_t CudaDevice::workspace_bytes() const {
  return inputs_.bytes + products_.bytes + prefill_.bytes + chunk_states_.bytes + copies_.bytes();
}

}  // namespace tandem::cuda
