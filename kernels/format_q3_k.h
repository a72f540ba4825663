// Q3_K: superblocks of 256; 256 third bits, 256 x 2 bit, 16 6-bit scales, f16 d.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q3_K {
  static constexpr QuantFormat kFormat{
      .superblock = 256, .sub = 16, .low_bits = 2, .high_bits = 1, .offset = 4};
  static constexpr int64_t kDAt = 108;
  static void decode(const std::byte* block, int64_t j, Quants& out) {
    out.d = half_at(block + kDAt);
    const std::byte* scales = block + 96;
    for (int half = 0; half < 2; ++half) {
      const int64_t i = 2 * j + half;
      const int low = byte_at(scales + i % 8) >> (i < 8 ? 0 : 4) & 15;
      const int high = byte_at(scales + 8 + i % 4) >> 2 * (i / 4) & 3;
      out.scale[half] = static_cast<int8_t>((low | high << 4) - 32);
    }
    const std::byte* quants = block + 32 + j / 4 * 32;
    for (int i = 0; i < 32; ++i) {
      const int low = byte_at(quants + i) >> 2 * (j % 4) & 3;
      const int high = byte_at(block + i) >> j & 1;
      out.q[i] = static_cast<uint8_t>(low | high << 2);
    }
  }
};

}  // namespace tandem
