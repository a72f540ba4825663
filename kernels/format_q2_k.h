// Q2_K: superblocks of 256; 16 x (4-bit scale, 4-bit minimum), 256 x 2 bit, f16 d, f16 dmin.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q2_K {
  static constexpr QuantFormat kFormat{
      .superblock = 256, .sub = 16, .low_bits = 2, .has_min = true, .scale_bits = 4};
  static constexpr int64_t kDAt = 80, kShiftAt = 82;
  static void decode(const std::byte* block, int64_t j, Quants& out) {
    out.d = half_at(block + kDAt);
    out.shift = half_at(block + kShiftAt) ^ 0x8000;  // dmin is taken away
    for (int half = 0; half < 2; ++half) {
      const int both = byte_at(block + 2 * j + half);
      out.scale[half] = static_cast<int8_t>(both & 15);
      out.min[half] = static_cast<uint8_t>(both >> 4);
    }
    // 128 elements are 32 bytes, 32 of them at each pair of bits.
    const std::byte* quants = block + 16 + j / 4 * 32;
    for (int i = 0; i < 32; ++i)
      out.q[i] = static_cast<uint8_t>((byte_at(quants + i) >> 2 * (j % 4)) & 3);
  }
};

}  // namespace tandem
