// Reading what another CUDA unit wrote from that unit's memory: two units on one device, or devices
// that can reach each other's memory.
#include <algorithm>
#include <vector>

#include "kernels/cuda_device.cuh"

namespace tandem::cuda {
namespace {

/// Gives the current device, which is `device`, access to another's memory. False where it has no
/// way.
bool enable_access(int device, int other) {
  int possible = 0;
  TANDEM_CUDA_CHECK(cudaDeviceCanAccessPeer(&possible, device, other));
  if (possible == 0) return false;
  const cudaError_t status = cudaDeviceEnablePeerAccess(other, 0);
  if (status == cudaSuccess) return true;
  cudaGetLastError();
  return status == cudaErrorPeerAccessAlreadyEnabled;
}

}  // namespace

/// Some IOMMUs send such reads elsewhere, and the driver does not know: a page is tried.
bool CudaDevice::reads_memory_of(int device) {
  constexpr size_t kBytes = 4096;
  constexpr std::byte kPattern{0x5a};
  TANDEM_CUDA_CHECK(cudaSetDevice(device));
  const Bytes there = device_memory(device, kBytes);
  TANDEM_CUDA_CHECK(cudaMemset(there.get(), static_cast<int>(kPattern), kBytes));
  TANDEM_CUDA_CHECK(cudaDeviceSynchronize());
  TANDEM_CUDA_CHECK(cudaSetDevice(options_.index));
  const Bytes here = device_memory(options_.index, kBytes);
  TANDEM_CUDA_CHECK(cudaMemsetAsync(here.get(), 0, kBytes, stream()));
  cuda::receive(there.get(), here.get(), {.rows = 1, .bytes = kBytes, .stride = kBytes}, stream());
  std::vector<std::byte> seen(kBytes);
  TANDEM_CUDA_CHECK(
      cudaMemcpyAsync(seen.data(), here.get(), kBytes, cudaMemcpyDeviceToHost, stream()));
  TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream()));
  return std::all_of(seen.begin(), seen.end(), [](std::byte byte) { return byte == kPattern; });
}

bool CudaDevice::connect(const Device& writer) {
  const auto* other = dynamic_cast<const CudaDevice*>(&writer);
  // Where a device shares the host's memory its results lie there anyway.
  if (other == nullptr || exchanged_.unified() || other->exchanged_.unified()) return false;
  const int device = other->options_.index;
  return on_device([&] {
    require_no_recording();
    return device == options_.index ||
           (enable_access(options_.index, device) && reads_memory_of(device));
  });
}

void CudaDevice::receive_from(const Device& writer, const Block& block) {
  if (block.rows <= 0 || block.bytes <= 0) return;
  on_device([&] {
    require_shared(block);
    const auto& other = static_cast<const CudaDevice&>(writer);
    cuda::receive(exchanged_.borrow(other.exchanged_, block.data), own(block.data), block,
                  stream());
  });
}

}  // namespace tandem::cuda
