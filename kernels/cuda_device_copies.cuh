// Streamed weights on their way: pieces of matrices in host memory are copied into slots in device
// memory, over a second stream, ahead of the kernels that read them.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <span>

#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_memory.cuh"
#include "kernels/cuda_queue.cuh"
#include "kernels/home.h"

namespace tandem::cuda {

/// Bytes that `columns` columns of all matrices take in a slot.
int64_t slot_bytes(std::span<const WeightMatrix> matrices, int64_t columns);
/// Of `columns` columns of all matrices, as many as are copied at once.
int64_t columns_at_once(std::span<const WeightMatrix> matrices, int64_t columns);

/// Queues a copy of `columns` from one layout of a matrix to another, over `stream`.
void copy_columns(const WeightMatrix& from, const WeightMatrix& to, Range columns,
                  cudaStream_t stream);

class CopyAhead {
 public:
  /// Makes the slots, which are there from then on.
  void reserve(int device);
  int64_t bytes() const { return slots_.back().memory ? kStreamSlots * kStreamSlotBytes : 0; }

  /// A step begins on `compute`: copies may run from here on. Until join(), a recording of
  /// `compute` holds them too.
  void begin_step(cudaStream_t compute);
  void join(cudaStream_t compute);

  /// Copies `columns` of each matrix, which lies in pinned host memory, into the next slot; in
  /// `there` it lies as kernels queued on `compute` up to release() may read it.
  void fetch(std::span<const WeightMatrix> matrices, Range columns, cudaStream_t compute,
             std::span<WeightMatrix> there);
  void release(cudaStream_t compute);

 private:
  struct Slot {
    Bytes memory;
    Event filled, read;
    bool in_use = false;  ///< in this step: `read` is to be waited for
  };
  Stream stream_;
  Event step_, done_;
  std::array<Slot, kStreamSlots> slots_;
  size_t next_ = 0;
};

}  // namespace tandem::cuda
