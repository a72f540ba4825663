#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda_device_weights.cuh"
#include "kernels/cuda_launch.cuh"

namespace tandem::cuda {

std::shared_ptr<const CudaMatrix> WeightLoader::place(const MatrixSource& source, Range columns,
                                                      Home home) {
  auto matrix = std::make_shared<CudaMatrix>();
  matrix->dtype = source.dtype;
  matrix->columns = source.columns;
  matrix->k = source.k;
  matrix->segment = source.segment > 0 ? source.segment : source.columns;
  matrix->resident = columns;
  matrix->bytes = matrix_bytes(source.dtype, columns.size(), source.k);
  matrix->home = home;
  matrix->memory = home == Home::kResident ? device_memory(device_, matrix->bytes)
                                           : pinned_memory(matrix->bytes);
  matrix->packed = matrix_at(matrix->memory.get(), source.dtype, columns, source.k);
  if (columns.empty()) return matrix;
  if (home == Home::kResident) {
    load(source, matrix->packed);
  } else {
    pack_columns(source, columns, matrix->memory.get(), &cores_);
  }
  return matrix;
}

void WeightLoader::load(const MatrixSource& source, const WeightMatrix& packed) {
  const int64_t one = matrix_bytes(source.dtype, 1, source.k);  // rounded up: pieces fit surely
  if (one > kStagingBytes)
    throw Error(fmt::format("weights: rows of {} elements are too long for a CUDA unit", source.k));
  if (!staging_) staging_.emplace();
  const Range columns = packed.columns;
  const int64_t step = kStagingBytes / one;
  size_t turn = 0;
  for (int64_t begin = columns.begin; begin < columns.end; begin += step, turn ^= 1) {
    const Range piece{begin, std::min(begin + step, columns.end)};
    Part& part = (*staging_)[turn];
    if (part.in_use) part.copied.synchronize();
    pack_columns(source, piece, part.memory.get(), &cores_);
    copy_columns(matrix_at(part.memory.get(), source.dtype, piece, source.k), packed, piece,
                 stream_);
    part.copied.record(stream_);
    part.in_use = true;
  }
  TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream_));
}

}  // namespace tandem::cuda
