#include <stdexcept>

#include "kernels/cuda_device_copies.cuh"
#include "kernels/cuda_launch.cuh"

namespace tandem::cuda {

int64_t slot_bytes(std::span<const WeightMatrix> matrices, int64_t columns) {
  int64_t sum = 0;
  for (const WeightMatrix& matrix : matrices) sum += matrix_bytes(matrix.dtype, columns, matrix.k);
  return sum;
}

int64_t columns_at_once(std::span<const WeightMatrix> matrices, int64_t columns) {
  if (slot_bytes(matrices, columns) <= kStreamSlotBytes) return columns;
  return columns_of_slot(kColumnAlign, slot_bytes(matrices, kColumnAlign));
}

void copy_columns(const WeightMatrix& from, const WeightMatrix& to, Range columns,
                  cudaStream_t stream) {
  for (int p = 0; p < kPlanes; ++p) {
    const Plane source = skip_columns(from.planes[p], columns.begin - from.columns.begin);
    const Plane target = skip_columns(to.planes[p], columns.begin - to.columns.begin);
    if (source.column_bytes == 0) continue;
    TANDEM_CUDA_CHECK(cudaMemcpyAsync(const_cast<std::byte*>(target.data), source.data,
                                      static_cast<size_t>(columns.size() * source.column_bytes),
                                      cudaMemcpyHostToDevice, stream));
  }
}

void CopyAhead::reserve(int device) {
  for (Slot& slot : slots_)
    if (!slot.memory) slot.memory = device_memory(device, kStreamSlotBytes);
}

void CopyAhead::begin_step(cudaStream_t compute) {
  if (bytes() == 0) return;
  step_.record(compute);
  step_.hold(stream_.get());
  for (Slot& slot : slots_) slot.in_use = false;
}

void CopyAhead::join(cudaStream_t compute) {
  if (bytes() == 0) return;
  done_.record(stream_.get());
  done_.hold(compute);
}

void CopyAhead::fetch(std::span<const WeightMatrix> matrices, Range columns, cudaStream_t compute,
                      std::span<WeightMatrix> there) {
  if (bytes() == 0 || slot_bytes(matrices, columns.size()) > kStreamSlotBytes)
    throw std::logic_error("a piece of streamed weights does not fit into a slot");
  Slot& slot = slots_[next_];
  if (slot.in_use) slot.read.hold(stream_.get());
  const std::byte* base = slot.memory.get();
  for (size_t i = 0; i < matrices.size(); ++i) {
    const WeightMatrix& from = matrices[i];
    there[i] = matrix_at(base, from.dtype, columns, from.k);
    copy_columns(from, there[i], columns, stream_.get());
    base += matrix_bytes(from.dtype, columns.size(), from.k);
  }
  slot.filled.record(stream_.get());
  slot.filled.hold(compute);
}

void CopyAhead::release(cudaStream_t compute) {
  Slot& slot = slots_[next_];
  slot.read.record(compute);
  slot.in_use = true;
  next_ = (next_ + 1) % kStreamSlots;
}

}  // namespace tandem::cuda
