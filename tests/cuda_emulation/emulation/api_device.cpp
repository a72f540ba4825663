// What can be asked of devices and of the driver. The numbers are those of a small GPU of
// capability 9.0.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "emulation/capture.h"
#include "emulation/driver.h"
#include "emulation/machine.h"
#include "emulation/stream.h"

using namespace cuda_emulation;

namespace {

constexpr int kMultiprocessors = 4;  // grids sized by it stay small
constexpr int kThreadsPerMultiprocessor = 2048;
constexpr int kMaxThreadsPerBlock = 1024;
constexpr int kSharedBytes = 48 * 1024;
constexpr int kSharedBytesPerMultiprocessor = 228 * 1024;
constexpr int kL2Bytes = 4 << 20;

cudaError_t ready_for(int device) {
  const cudaError_t status = ready();
  return status != cudaSuccess ? status : check_device(device);
}

/// Devices that the current one was given access to.
std::atomic<uint64_t>& peers_of_current() {
  return machine().peers[static_cast<size_t>(current_device())];
}
uint64_t bit(int device) { return uint64_t{1} << device; }

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  if (count == nullptr) return answer(cudaErrorInvalidValue);
  *count = 0;
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  *count = machine().devices;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  if (device == nullptr) return answer(cudaErrorInvalidValue);
  *device = current_device();
  return answer(ready());
}

cudaError_t cudaInitDevice(int device, unsigned int /*device_flags*/, unsigned int /*flags*/) {
  return answer(ready_for(device));
}
cudaError_t cudaSetDeviceFlags(unsigned int /*flags*/) { return answer(ready()); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int device) {
  if (const cudaError_t status = ready_for(device); status != cudaSuccess) return answer(status);
  if (prop == nullptr) return answer(cudaErrorInvalidValue);
  cudaDeviceProp properties{};
  std::snprintf(properties.name, sizeof properties.name, "emulated CUDA device");
  properties.totalGlobalMem = static_cast<size_t>(machine().memory_bytes.load());
  properties.sharedMemPerBlock = properties.sharedMemPerBlockOptin = kSharedBytes;
  properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
  properties.warpSize = 32;
  properties.maxThreadsPerBlock = kMaxThreadsPerBlock;
  const int max_block[] = {1024, 1024, 64}, max_grid[] = {0x7fffffff, 65535, 65535};
  std::copy_n(max_block, 3, properties.maxThreadsDim);
  std::copy_n(max_grid, 3, properties.maxGridSize);
  properties.major = 9;
  properties.multiProcessorCount = kMultiprocessors;
  properties.integrated = machine().integrated;
  properties.canMapHostMemory = properties.unifiedAddressing = 1;
  properties.concurrentKernels = properties.hostRegisterSupported = 1;
  properties.canUseHostPointerForRegisteredMem = 1;
  properties.pciBusID = device + 1;
  properties.asyncEngineCount = 2;
  properties.memoryBusWidth = 128;
  properties.l2CacheSize = kL2Bytes;
  properties.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties.sharedMemPerMultiprocessor = kSharedBytesPerMultiprocessor;
  *prop = properties;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attr, int device) {
  cudaDeviceProp properties{};
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device);
      status != cudaSuccess)
    return status;
  if (value == nullptr) return answer(cudaErrorInvalidValue);
  switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = kSharedBytes;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kSharedBytes;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kSharedBytesPerMultiprocessor;
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrClockRate:
      *value = 1'000'000;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 1'000'000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = properties.memoryBusWidth;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrIntegrated:
      *value = properties.integrated;
      break;
    case cudaDevAttrPciBusId:
      *value = properties.pciBusID;
      break;
    case cudaDevAttrPciDeviceId:
      *value = 0;
      break;
    case cudaDevAttrPciDomainId:
      *value = 0;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kThreadsPerMultiprocessor;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = 32;
      break;
    case cudaDevAttrAsyncEngineCount:
      *value = properties.asyncEngineCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrReserved92:
      *value = machine().stream_memory_ops;
      break;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
    case cudaDevAttrHostRegisterSupported:
      *value = 1;
      break;
    default:
      *value = 0;
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* pci_bus_id, int len, int device) {
  if (const cudaError_t status = ready_for(device); status != cudaSuccess) return answer(status);
  if (pci_bus_id == nullptr || len < 13) return answer(cudaErrorInvalidValue);
  std::snprintf(pci_bus_id, static_cast<size_t>(len), "0000:%02x:00.0",
                static_cast<unsigned>(device + 1) & 0xff);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (const cudaError_t status = forbid_on_capturing_device(current_device());
      status != cudaSuccess)
    return answer(status);
  drain_device(current_device());
  return answer(ready());
}

cudaError_t cudaDriverGetVersion(int* driver_version) {
  if (driver_version == nullptr) return answer(cudaErrorInvalidValue);
  *driver_version = machine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* runtime_version) {
  if (runtime_version == nullptr) return answer(cudaErrorInvalidValue);
  *runtime_version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can_access_peer, int device, int peer_device) {
  for (const int number : {device, peer_device})
    if (const cudaError_t status = ready_for(number); status != cudaSuccess) return answer(status);
  if (can_access_peer == nullptr) return answer(cudaErrorInvalidValue);
  *can_access_peer = machine().peer_access && device != peer_device;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer_device, unsigned int flags) {
  if (const cudaError_t status = ready_for(peer_device); status != cudaSuccess)
    return answer(status);
  if (flags != 0) return answer(cudaErrorInvalidValue);
  if (!machine().peer_access || peer_device == current_device())
    return answer(cudaErrorPeerAccessUnsupported);
  const uint64_t before = peers_of_current().fetch_or(bit(peer_device));
  return answer((before & bit(peer_device)) != 0 ? cudaErrorPeerAccessAlreadyEnabled : cudaSuccess);
}
cudaError_t cudaDeviceDisablePeerAccess(int peer_device) {
  if (const cudaError_t status = ready_for(peer_device); status != cudaSuccess)
    return answer(status);
  const uint64_t before = peers_of_current().fetch_and(~bit(peer_device));
  return answer((before & bit(peer_device)) == 0 ? cudaErrorPeerAccessNotEnabled : cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void* func, cudaFuncAttribute /*attr*/, int /*value*/) {
  return answer(func == nullptr ? cudaErrorInvalidDeviceFunction : ready());
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attr, const void* func) {
  if (attr == nullptr) return answer(cudaErrorInvalidValue);
  if (func == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  *attr = {.sharedSizeBytes = 0,
           .localSizeBytes = 0,
           .maxThreadsPerBlock = kMaxThreadsPerBlock,
           .numRegs = 32};
  return answer(ready());
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, const void* func,
                                                          int block_size,
                                                          size_t /*dynamic_smem_size*/) {
  if (num_blocks == nullptr || block_size <= 0 || block_size > kMaxThreadsPerBlock)
    return answer(cudaErrorInvalidValue);
  if (func == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  *num_blocks = std::min(32, kThreadsPerMultiprocessor / block_size);
  return answer(ready());
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** func_ptr,
                                             unsigned int /*cuda_version*/,
                                             unsigned long long /*flags*/,
                                             cudaDriverEntryPointQueryResult* status) {
  if (symbol == nullptr || func_ptr == nullptr) return answer(cudaErrorInvalidValue);
  *func_ptr = machine().stream_memory_ops ? find_driver_function(symbol) : nullptr;
  if (status != nullptr)
    *status =
        *func_ptr != nullptr ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return answer(ready());
}
