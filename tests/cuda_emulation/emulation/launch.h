// cudaLaunchKernelEx: takes a kernel and its arguments, queues them as one piece of work.
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulation/runtime_api.h"

namespace cuda_emulation {

/// Queues a grid; `thread` is what one of its threads does.
cudaError_t launch_kernel(const cudaLaunchConfig_t& config, std::function<void()> thread);

}  // namespace cuda_emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((!std::is_reference_v<Parameters> && ...),
                "a kernel takes its parameters by value");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "parameters are copied to the device byte by byte");
  static_assert((sizeof(Parameters) + ... + 0) <= 4096,
                "parameters of a kernel take 4 KiB at most");
  std::tuple<Parameters...> parameters(std::forward<Arguments>(arguments)...);
  return cuda_emulation::launch_kernel(*config,
                                       [kernel, parameters] { std::apply(kernel, parameters); });
}
