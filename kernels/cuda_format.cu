// How weights lie in a CUDA device's memory. Everything here runs on the host.
#include <cstring>

#include "kernels/cuda_kernels.cuh"

namespace tandem::cuda {
namespace {

// Quants and scales lie apart: a column's quants are then whole 16-byte words, which the kernels
// load unshifted and coalesced (blocks of 18 or 34 bytes would be neither).

constexpr int64_t kScaleBytes = 2;

bool has_scales(DType dtype) { return info(dtype).block_size > 1; }

void zero(std::byte* from, std::byte* to) { std::memset(from, 0, static_cast<size_t>(to - from)); }

/// The blocks of a row in file format: a scale, then quants.
void split_blocks(DType dtype, const std::byte* row, int64_t k, std::byte* quants,
                  std::byte* scales) {
  const int64_t block_bytes = info(dtype).block_bytes, quant_bytes = block_bytes - kScaleBytes;
  for (int64_t b = 0; b < k / 32; ++b) {
    const std::byte* block = row + b * block_bytes;
    std::memcpy(scales + b * kScaleBytes, block, kScaleBytes);
    std::memcpy(quants + b * quant_bytes, block + kScaleBytes, static_cast<size_t>(quant_bytes));
  }
}

}  // namespace

WeightMatrix matrix_at(const std::byte* base, DType dtype, Range columns, int64_t k) {
  WeightMatrix matrix{.dtype = dtype,
                      .k = k,
                      .columns = columns,
                      .column_bytes = column_bytes(dtype, k),
                      .quants = base};
  if (has_scales(dtype))
    matrix.scales =
        reinterpret_cast<const uint16_t*>(base + quants_bytes(dtype, columns.size(), k));
  return matrix;
}

void pack_columns(const MatrixSource& source, Range columns, std::byte* out) {
  const DType dtype = source.dtype;
  const int64_t k = source.k, n = columns.size();
  const int64_t stride = column_bytes(dtype, k), row = row_bytes(dtype, k);
  std::byte* scales = out + quants_bytes(dtype, n, k);
  for (int64_t i = 0; i < n; ++i) {
    const std::byte* from = source.rows + (columns.begin + i) * row;
    std::byte* column = out + i * stride;
    if (has_scales(dtype)) {
      split_blocks(dtype, from, k, column, scales + i * (k / 32) * kScaleBytes);
    } else {
      std::memcpy(column, from, static_cast<size_t>(row));
      zero(column + row, column + stride);
    }
  }
  zero(out + n * stride, scales);
  if (has_scales(dtype)) zero(scales + n * (k / 32) * kScaleBytes, out + matrix_bytes(dtype, n, k));
}

}  // namespace tandem::cuda
