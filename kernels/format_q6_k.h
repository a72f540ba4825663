// Q6_K: superblocks of 256; 256 x lower 4 bit, 256 x upper 2 bit, 16 8-bit scales, f16 d.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q6_K {
  static constexpr QuantFormat kFormat{
      .superblock = 256, .sub = 16, .low_bits = 4, .high_bits = 2, .offset = 32};
  static constexpr int64_t kDAt = 208;
  static void decode(const std::byte* block, int64_t j, Quants& out) {
    out.d = half_at(block + kDAt);
    for (int half = 0; half < 2; ++half)
      out.scale[half] = static_cast<int8_t>(byte_at(block + 192 + 2 * j + half));
    // Of each 128 elements the first 64 are the low nibbles of 64 bytes.
    const std::byte* lower = block + j / 4 * 64 + j % 2 * 32;
    const std::byte* upper = block + 128 + j / 4 * 32;
    for (int i = 0; i < 32; ++i) {
      const int low = byte_at(lower + i) >> (j % 4 < 2 ? 0 : 4) & 15;
      const int high = byte_at(upper + i) >> 2 * (j % 4) & 3;
      out.q[i] = static_cast<uint8_t>(low | high << 4);
    }
  }
};

}  // namespace tandem
