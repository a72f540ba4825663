// Q5_K: superblocks of 256; f16 d, f16 dmin, 8 x (6-bit scale, 6-bit minimum), 256 fifth bits, 256
// x 4 bit.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q5_K {
  static constexpr QuantFormat kFormat{.superblock = 256,
                                       .sub = 32,
                                       .low_bits = 4,
                                       .high_bits = 1,
                                       .has_min = true,
                                       .scale_bits = 6};
  static constexpr int64_t kDAt = 0, kShiftAt = 2;
  static void decode(const std::byte* block, int64_t j, Quants& out) {
    out.d = half_at(block + kDAt);
    out.shift = half_at(block + kShiftAt) ^ 0x8000;  // dmin is taken away
    decode_k_scales(block + 4, j, out);
    const std::byte* quants = block + 48 + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int low = byte_at(quants + i) >> 4 * (j % 2) & 15;
      const int high = byte_at(block + 16 + i) >> j & 1;
      out.q[i] = static_cast<uint8_t>(low | high << 4);
    }
  }
};

}  // namespace tandem
