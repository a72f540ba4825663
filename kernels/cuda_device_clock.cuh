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

  /// Measures the offset on `stream` of the device, which must be idle: here and in refresh().
  DeviceClock(int device, cudaStream_t stream);

  /// The offset in the device's memory: kernels would wait a microsecond for the host's.
  const int64_t* offset() const { return &on_device_->offset; }
  /// Follows the drift between the clocks, when it may have become larger than the uncertainty.
  void refresh();

 private:
  struct Offsets {
    int64_t zero = 0;  ///< for a stamp that is the device's clock itself
    int64_t offset = 0;
  };
  struct Words {
    Offsets offsets;
    int64_t stamp = 0;
  };
  void measure();
  void send_offsets();

  cudaStream_t stream_;
  Bytes pinned_, memory_;
  Words* on_host_;
  const Offsets* on_device_;
  int64_t* stamp_;                ///< device's address of on_host_->stamp
  int64_t width_ns_ = INT64_MAX;  ///< of the interval in whose middle the offset was set
  Steady::time_point measured_{};
};

}  // namespace tandem::cuda
