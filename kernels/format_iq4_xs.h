// IQ4_XS: superblocks of 256; f16 d, 8 6-bit scales, 256 x 4 bit that index values.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct IQ4_XS {
  static constexpr QuantFormat kFormat{.superblock = 256, .sub = 32, .low_bits = 4, .table = true};
  static constexpr int64_t kDAt = 0;
  static void decode(const std::byte* block, int64_t j, Quants& out) {
    out.d = half_at(block + kDAt);
    const int low = byte_at(block + 4 + j / 2) >> 4 * (j % 2) & 15;
    const int high = half_at(block + 2) >> 2 * j & 3;
    out.scale[0] = out.scale[1] = static_cast<int8_t>((low | high << 4) - 32);
    decode_nibbles(block + 8 + 16 * j, out);
  }
};

}  // namespace tandem
