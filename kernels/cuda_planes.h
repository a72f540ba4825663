// How a packed column of weights lies in a CUDA device's memory: in up to four planes, which lie
// apart, so that each is read in aligned words, side by side over the lanes (blocks of 18 or 34
// bytes would be neither). No arithmetic here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/formats.h"
#include "kernels/quant_format.h"
#include "kernels/range.h"

namespace tandem::cuda {

/// Elements, or the lower bits of quants; their upper bits; scales and minimums of sub-blocks; f16
/// d of blocks, and beside it the minimums' factor.
inline constexpr int kLowPlane = 0, kHighPlane = 1, kScalePlane = 2, kFactorPlane = 3;
inline constexpr int kPlanes = 4;

/// A plane of some columns, one behind the other.
struct Plane {
  const std::byte* data = nullptr;
  int64_t column_bytes = 0;  ///< 0: the dtype has no such plane
};

/// The same without its first columns.
__host__ __device__ constexpr Plane skip_columns(Plane plane, int64_t columns) {
  plane.data += columns * plane.column_bytes;
  return plane;
}

/// What belongs to a chunk, which is 16 bytes of the low plane.
///
/// Quants of a format in formats.h lie by quads, four consecutive ones in the bytes of a word: quad
/// i of a chunk has its lower bits in word i % 4, from bit i / 4 * low_bits of each byte on. The
/// upper bits of 8 / high_bits quads share a word in the same way, in order. A chunk's scales are a
/// byte a sub-block, then as many minimums.
struct ColumnLayout {
  int elements = 0;      ///< of a chunk
  int high_bytes = 0;    ///< of a chunk: 0, 4 or 8
  int scale_bytes = 0;   ///< of a chunk: 0, 1, 2 or 4
  int factor_bytes = 0;  ///< of factor_elements: 0, 2 or 4
  int factor_elements = 32;
};

constexpr ColumnLayout layout_of(const QuantFormat& f) {
  const int elements = 128 / f.low_bits;
  const int subs = f.superblock == 32 ? 0 : elements / static_cast<int>(f.sub);
  return {.elements = elements,
          .high_bytes = elements * f.high_bits / 8,
          .scale_bytes = subs * (f.has_min && f.scale_bits != 4 ? 2 : 1),
          .factor_bytes = f.has_min ? 4 : 2,
          .factor_elements = static_cast<int>(f.superblock)};
}

/// Q8_0's quants lie as in a file, and so do Q4_0's: byte i of a chunk has elements i and i + 16.
constexpr ColumnLayout layout_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {.elements = 4};
    case DType::kF16:
    case DType::kBF16:
      return {.elements = 8};
    case DType::kQ8_0:
      return {.elements = 16, .factor_bytes = 2};
    case DType::kQ4_0:
      return {.elements = 32, .factor_bytes = 2};
    default:
      break;
  }
  ColumnLayout layout;
  with_quant_format(dtype, [&](auto format) { layout = layout_of(decltype(format)::kFormat); });
  return layout;
}

/// Bytes of a column in each plane; those of the low one are a multiple of 16.
constexpr std::array<int64_t, kPlanes> column_bytes(DType dtype, int64_t k) {
  const ColumnLayout layout = layout_of(dtype);
  const int64_t chunks = div_up(k, layout.elements);
  return {chunks * 16, chunks * layout.high_bytes, chunks * layout.scale_bytes,
          k / layout.factor_elements * layout.factor_bytes};
}

/// Of a plane's begin: as cudaMalloc's.
inline constexpr int64_t kPlaneAlign = 256;

/// Bytes of a plane of `columns` columns, rounded up.
constexpr int64_t plane_bytes(int64_t columns, int64_t bytes_each) {
  return round_up(columns * bytes_each, kPlaneAlign);
}

/// Bytes of `columns` columns, plane after plane.
constexpr int64_t matrix_bytes(DType dtype, int64_t columns, int64_t k) {
  int64_t sum = 0;
  for (const int64_t bytes : column_bytes(dtype, k)) sum += plane_bytes(columns, bytes);
  return sum;
}

}  // namespace tandem::cuda
