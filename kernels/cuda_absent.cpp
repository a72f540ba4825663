// What a build without CUDA has instead of kernels/cuda_*.cu: no devices.
#include "kernels/device.h"

namespace tandem {

std::vector<CudaDeviceInfo> list_cuda_devices() { return {}; }
std::vector<std::unique_ptr<Device>> open_cuda_devices() { return {}; }

}  // namespace tandem
