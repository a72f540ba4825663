// The formats of a KV cache: where elements and scales of a position lie. Rounding to a format and
// reading it is arithmetic of each kind of unit: body_kv.h, cuda_kv.cuh.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/dtype.h"
#include "kernels/range.h"

namespace tandem {

/// f16 is the default. Of q8_0 the int8 of a block of 32 elements lie apart from its f16 scale, the
/// largest magnitude / 127.
inline constexpr std::array<DType, 4> kKvFormats{DType::kF16, DType::kF32, DType::kBF16,
                                                 DType::kQ8_0};
inline constexpr int64_t kKvPanel = 16;  ///< positions of a panel
inline constexpr int64_t kKvBlock = 32;  ///< elements that share a scale, where a format has scales

bool is_kv_format(DType dtype);
/// "f16, f32, bf16 or q8_0", of those that a cache of this head_dim can have.
std::string kv_format_names(int64_t head_dim = kKvBlock);
/// What is wrong with a format for heads of head_dim, and what to do; empty where nothing is.
std::string kv_format_problem(DType dtype, int64_t head_dim);

/// How the keys, or the values, of one kv head lie: a panel of 16 positions after another. A panel
/// is its elements, keys [width][16 positions] and values [16 positions][width], then its scales,
/// keys [scales][16 positions] and values [16 positions][scales].
struct KvLayout {
  bool keys = false;
  int64_t width = 0;          ///< elements of a position; of values a multiple of 16, padded
  int64_t element_bytes = 0;  ///< 1, 2 or 4
  int64_t scales = 0;         ///< of a position
};
inline constexpr int64_t kKvScaleBytes = 2;

constexpr int64_t kv_value_stride(int64_t head_dim) { return round_up(head_dim, 16); }

/// Bytes of a position.
__host__ __device__ static inline int64_t kv_row_bytes(const KvLayout& layout) {
  return layout.width * layout.element_bytes + layout.scales * kKvScaleBytes;
}
__host__ __device__ static inline int64_t kv_panel_bytes(const KvLayout& layout) {
  return kKvPanel * kv_row_bytes(layout);
}

/// The parts of one position: elements lie `stride` elements apart, and so do scales.
struct KvRow {
  std::byte* elements = nullptr;
  std::byte* scales = nullptr;
  int64_t stride = 1;
};
/// Row `row` of a head that begins at `head`.
__host__ __device__ static inline KvRow kv_row(const KvLayout& layout, std::byte* head,
                                               int64_t row) {
  std::byte* panel = head + row / kKvPanel * kv_panel_bytes(layout);
  std::byte* scales = panel + kKvPanel * layout.width * layout.element_bytes;
  const int64_t lane = row % kKvPanel;
  if (layout.keys)
    return {panel + lane * layout.element_bytes, scales + lane * kKvScaleBytes, kKvPanel};
  return {panel + lane * layout.width * layout.element_bytes,
          scales + lane * layout.scales * kKvScaleBytes, 1};
}
/// A row alone, as KernelSet::convert() makes it: elements, then scales.
inline KvRow packed_kv_row(const KvLayout& layout, std::byte* row) {
  return {row, row + layout.width * layout.element_bytes, 1};
}

KvLayout key_layout(DType dtype, int64_t head_dim);
KvLayout value_layout(DType dtype, int64_t head_dim);

void copy_kv_row(const KvLayout& layout, const KvRow& from, const KvRow& to);

struct KernelSet;
/// Rounds a row of head_dim floats to a format and stores it, with zeros where values are padded.
void store_kv_row(const KernelSet& kernels, DType dtype, const float* x, int64_t head_dim,
                  const KvLayout& layout, const KvRow& to);

}  // namespace tandem
