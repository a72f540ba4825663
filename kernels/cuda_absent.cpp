// What a build without CUDA has instead of kernels/cuda_*.cu: no devices.
#include <fmt/format.h>

#include "kernels/device.h"
#include "kernels/error.h"

namespace tandem {

std::vector<CudaDeviceInfo> list_cuda_devices() { return {}; }

bool has_cuda_matrix_library() { return false; }

std::unique_ptr<Device> open_cuda_device(const CudaDeviceOptions& options) {
  throw Error(
      fmt::format("gpu{}: this tandem was built without CUDA; build it where nvcc and the GPU are, "
                  "or plan without GPUs",
                  options.index));
}

}  // namespace tandem
