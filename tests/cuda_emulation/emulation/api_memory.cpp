// Memory of devices and pinned host memory: both from malloc, so that asan sees what is written
// beside it, and filled with 0xff, which is NaN in every float format.
#include <cstdlib>
#include <cstring>

#include "emulation/capture.h"
#include "emulation/machine.h"
#include "emulation/memory_table.h"
#include "emulation/stream.h"

using namespace cuda_emulation;

namespace {

constexpr size_t kDeviceAlignment = 256;
constexpr size_t kPinnedAlignment = 4096;

cudaError_t allocate(void** out, size_t bytes, size_t alignment, MemoryKind kind, unsigned flags) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return status;
  if (out == nullptr) return cudaErrorInvalidValue;
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess) return status;
  *out = nullptr;
  if (bytes == 0) return cudaSuccess;
  const int device = current_device();
  const size_t used = kind == MemoryKind::kDevice ? memory_table().device_bytes(device) : 0;
  if (used + bytes > static_cast<size_t>(machine().memory_bytes.load()) ||
      posix_memalign(out, alignment, bytes) != 0)
    return cudaErrorMemoryAllocation;
  std::memset(*out, 0xff, bytes);
  return memory_table().add({.base = static_cast<std::byte*>(*out),
                             .bytes = bytes,
                             .kind = kind,
                             .device = device,
                             .flags = flags});
}

/// Memory of a lost device is given back, too.
cudaError_t release(void* base, MemoryKind kind) {
  if (base == nullptr) return cudaSuccess;
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess) return status;
  const auto allocation = memory_table().remove(base, kind);
  if (!allocation.has_value()) return cudaErrorInvalidValue;
  drain_device(allocation->device);
  std::free(base);
  return ready();
}

bool is_pinned(const Allocation& allocation) { return allocation.kind != MemoryKind::kDevice; }

}  // namespace

cudaError_t cudaMalloc(void** dev_ptr, size_t size) {
  return answer(allocate(dev_ptr, size, kDeviceAlignment, MemoryKind::kDevice, 0));
}
cudaError_t cudaHostAlloc(void** host, size_t size, unsigned int flags) {
  // With one address space all pinned memory is mapped.
  return answer(
      allocate(host, size, kPinnedAlignment, MemoryKind::kPinned, flags | cudaHostAllocMapped));
}
cudaError_t cudaMallocHost(void** ptr, size_t size) {
  return cudaHostAlloc(ptr, size, cudaHostAllocDefault);
}
cudaError_t cudaFree(void* dev_ptr) { return answer(release(dev_ptr, MemoryKind::kDevice)); }
cudaError_t cudaFreeHost(void* ptr) { return answer(release(ptr, MemoryKind::kPinned)); }

cudaError_t cudaHostRegister(void* ptr, size_t size, unsigned int flags) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess)
    return answer(status);
  if (ptr == nullptr || size == 0) return answer(cudaErrorInvalidValue);
  if (const auto known = memory_table().find(ptr); known.has_value())
    return answer(is_pinned(*known) ? cudaErrorHostMemoryAlreadyRegistered : cudaErrorInvalidValue);
  return answer(memory_table().add({.base = static_cast<std::byte*>(ptr),
                                    .bytes = size,
                                    .kind = MemoryKind::kRegistered,
                                    .device = current_device(),
                                    .flags = flags}));
}

cudaError_t cudaHostUnregister(void* ptr) {
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess)
    return answer(status);
  if (!memory_table().remove(ptr, MemoryKind::kRegistered).has_value())
    return answer(cudaErrorHostMemoryNotRegistered);
  return answer(ready());
}

cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned int flags) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  const auto known = memory_table().find(host);
  if (device == nullptr || flags != 0 || !known.has_value() || !is_pinned(*known))
    return answer(cudaErrorInvalidValue);
  static_assert(cudaHostAllocMapped == cudaHostRegisterMapped);
  if ((known->flags & cudaHostAllocMapped) == 0) return answer(cudaErrorInvalidValue);
  *device = host;
  return cudaSuccess;
}

cudaError_t cudaHostGetFlags(unsigned int* flags, void* host) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  const auto known = memory_table().find(host);
  if (flags == nullptr || !known.has_value() || !is_pinned(*known))
    return answer(cudaErrorInvalidValue);
  *flags = known->flags;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (free == nullptr || total == nullptr) return answer(cudaErrorInvalidValue);
  const size_t used = memory_table().device_bytes(current_device());
  *total = static_cast<size_t>(machine().memory_bytes.load());
  *free = *total > used ? *total - used : 0;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* ptr) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (attributes == nullptr) return answer(cudaErrorInvalidValue);
  const auto known = memory_table().find(ptr);
  *attributes = {.type = cudaMemoryTypeUnregistered,
                 .device = -2,  // cudaInvalidDeviceId
                 .devicePointer = nullptr,
                 .hostPointer = const_cast<void*>(ptr)};
  if (!known.has_value()) return cudaSuccess;
  attributes->device = known->device;
  attributes->type = is_pinned(*known) ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  attributes->devicePointer = const_cast<void*>(ptr);
  if (!is_pinned(*known)) attributes->hostPointer = nullptr;
  return cudaSuccess;
}
