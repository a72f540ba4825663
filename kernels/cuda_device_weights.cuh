// Weights of a CUDA unit: packed on the host and brought to where they wait for their kernel.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "kernels/cuda_device_copies.cuh"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_memory.cuh"
#include "kernels/cuda_queue.cuh"
#include "kernels/device.h"

namespace tandem::cuda {

struct CudaMatrix : PlacedMatrix {
  Bytes memory;         ///< the device's, or pinned
  WeightMatrix packed;  ///< in `memory`
  Home home = Home::kResident;
};

class WeightLoader {
 public:
  /// Copies over `stream` of the device. Packs on all cores that this thread may use now: later it
  /// is the unit's driver, pinned to one.
  WeightLoader(int device, cudaStream_t stream) : device_(device), stream_(stream) {
    sched_getaffinity(0, sizeof cores_, &cores_);
  }

  std::shared_ptr<const CudaMatrix> place(const MatrixSource& source, Range columns, Home home);
  /// Frees the staging memory; place() makes it anew.
  void rest() { staging_.reset(); }

 private:
  /// A part is packed while the other is copied.
  static constexpr int64_t kStagingBytes = int64_t{8} << 20;
  struct Part {
    Bytes memory = pinned_memory(kStagingBytes);
    Event copied;
    bool in_use = false;
  };
  void load(const MatrixSource& source, const WeightMatrix& packed);

  int device_;
  cudaStream_t stream_;
  cpu_set_t cores_;
  std::optional<std::array<Part, 2>> staging_;
};

}  // namespace tandem::cuda
