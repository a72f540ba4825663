// Copies and fills. What they touch is checked when they are called, since the thread that executes
// them knows nothing of the caller; they read and write when their turn comes, also where the real
// runtime would have read pageable memory at once.
#include <cstring>

#include "emulation/capture.h"
#include "emulation/machine.h"
#include "emulation/memory_table.h"
#include "emulation/stream.h"

using namespace cuda_emulation;

namespace {

enum class Side : uint8_t { kHost, kDevice, kEither };

/// A run of bytes lies in memory of a kind that a copy may name so: `device` is memory of a device
/// or pinned memory, which a device reaches too; `host` is no device memory.
cudaError_t check_run(const void* p, size_t bytes, Side side) {
  const auto known = memory_table().find(p);
  const bool of_device = known.has_value() && known->kind == MemoryKind::kDevice;
  if (side == Side::kDevice && !known.has_value()) return cudaErrorInvalidValue;
  if (side == Side::kHost && of_device) return cudaErrorInvalidValue;
  if (!known.has_value()) return p == nullptr ? cudaErrorInvalidValue : cudaSuccess;
  const auto offset = static_cast<size_t>(static_cast<const std::byte*>(p) - known->base);
  return offset + bytes <= known->bytes ? cudaSuccess : cudaErrorInvalidValue;
}

struct Rectangle {
  void* to = nullptr;
  size_t to_pitch = 0;
  const void* from = nullptr;
  size_t from_pitch = 0;
  size_t width = 0;
  size_t height = 0;
};

cudaError_t check(const Rectangle& r, cudaMemcpyKind kind) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
    return cudaErrorInvalidMemcpyDirection;
  if (r.height > 1 && (r.width > r.to_pitch || r.width > r.from_pitch))
    return cudaErrorInvalidPitchValue;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const auto side = [&](bool device) {
    if (kind == cudaMemcpyDefault) return Side::kEither;
    return device ? Side::kDevice : Side::kHost;
  };
  const size_t rows_before_last = r.height - 1;
  if (const cudaError_t status =
          check_run(r.to, rows_before_last * r.to_pitch + r.width, side(to_device));
      status != cudaSuccess)
    return status;
  return check_run(r.from, rows_before_last * r.from_pitch + r.width, side(from_device));
}

void copy(const Rectangle& r) {
  for (size_t row = 0; row < r.height; ++row)
    std::memcpy(static_cast<std::byte*>(r.to) + row * r.to_pitch,
                static_cast<const std::byte*>(r.from) + row * r.from_pitch, r.width);
}

cudaError_t copy_async(const Rectangle& r, cudaMemcpyKind kind, cudaStream_t stream) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return status;
  if (r.width == 0 || r.height == 0) return cudaSuccess;
  if (const cudaError_t status = check(r, kind); status != cudaSuccess) return status;
  return submit(stream, cudaGraphNodeTypeMemcpy, [r] { copy(r); });
}

/// Calls without a stream use the null stream and wait for it.
cudaError_t and_wait(cudaError_t queued) {
  if (queued != cudaSuccess) return queued;
  resolve(nullptr).drain();
  return ready();
}

cudaError_t fill_async(void* to, int value, size_t count, cudaStream_t stream) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return status;
  if (count == 0) return cudaSuccess;
  if (const cudaError_t status = check_run(to, count, Side::kDevice); status != cudaSuccess)
    return status;
  return submit(stream, cudaGraphNodeTypeMemset, [=] { std::memset(to, value, count); });
}

}  // namespace

cudaError_t cudaMemcpy(void* dst, const void* src, size_t count, cudaMemcpyKind kind) {
  return cudaMemcpy2D(dst, count, src, count, count, 1, kind);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t count, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(dst, count, src, count, count, 1, kind, stream);
}

cudaError_t cudaMemcpy2D(void* dst, size_t dpitch, const void* src, size_t spitch, size_t width,
                         size_t height, cudaMemcpyKind kind) {
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess)
    return answer(status);
  return answer(and_wait(copy_async({dst, dpitch, src, spitch, width, height}, kind, nullptr)));
}

cudaError_t cudaMemcpy2DAsync(void* dst, size_t dpitch, const void* src, size_t spitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return answer(copy_async({dst, dpitch, src, spitch, width, height}, kind, stream));
}

cudaError_t cudaMemcpyPeerAsync(void* dst, int dst_device, const void* src, int src_device,
                                size_t count, cudaStream_t stream) {
  for (const int device : {dst_device, src_device})
    if (const cudaError_t status = check_device(device); status != cudaSuccess)
      return answer(status);
  return cudaMemcpyAsync(dst, src, count, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemset(void* dev_ptr, int value, size_t count) {
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess)
    return answer(status);
  return answer(and_wait(fill_async(dev_ptr, value, count, nullptr)));
}

cudaError_t cudaMemsetAsync(void* dev_ptr, int value, size_t count, cudaStream_t stream) {
  return answer(fill_async(dev_ptr, value, count, stream));
}
