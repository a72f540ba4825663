// The CUDA unit's clock against the host's, so that stamps of all units lie on one time line.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>

#include "kernels/cuda_memory.cuh"

namespace tandem::cuda {

/// What to add to the device's clock to get the host's steady clock, in nanoseconds.
class DeviceClock {
 public:
  using Steady = std::chrono::steady_clock;

  /// Measures the offset on `stream`, which must be idle: here and in refresh().
  explicit DeviceClock(cudaStream_t stream);

  /// The device's address of the offset.
  const int64_t* offset() const { return &on_device_->offset; }
  /// Follows the drift between the clocks, when it may have become larger than the uncertainty.
  void refresh();

 private:
  struct Words {
    int64_t offset = 0;
    int64_t zero = 0;
    int64_t stamp = 0;
  };
  void measure();

  cudaStream_t stream_;
  Bytes memory_;
  Words* on_host_;
  const Words* on_device_;
  int64_t* stamp_;                ///< device's address of on_host_->stamp
  int64_t width_ns_ = INT64_MAX;  ///< of the interval in whose middle the offset was set
  Steady::time_point measured_{};
};

}  // namespace tandem::cuda
