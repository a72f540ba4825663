// The one place that launches kernels and checks what the CUDA runtime answers. Included by .cu
// files only.
#pragma once

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <cstdint>

#include "kernels/error.h"

namespace tandem::cuda {

/// Throws an Error that names the call where the runtime refused it.
inline void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error(fmt::format("CUDA: {}: {}", call, cudaGetErrorString(status)));
}
#define TANDEM_CUDA_CHECK(call) ::tandem::cuda::check((call), #call)

struct LaunchShape {
  dim3 grid;
  dim3 block;
  cudaStream_t stream = nullptr;
};

/// Queues kernel(arguments...); arguments are converted to the kernel's parameter types.
template <class... Parameters, class... Arguments>
void launch(const LaunchShape& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.stream = shape.stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launch");
}

}  // namespace tandem::cuda
