// Q5_1: blocks of 32; f16 d, f16 minimum, 32 fifth bits, 32 x 4 bit.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q5_1 {
  static constexpr QuantFormat kFormat{
      .superblock = 32, .sub = 32, .low_bits = 4, .high_bits = 1, .has_min = true};
  static constexpr int64_t kDAt = 0, kShiftAt = 2;
  static void decode(const std::byte* block, int64_t, Quants& out) {
    out.d = half_at(block + kDAt);
    out.shift = half_at(block + kShiftAt);
    decode_nibbles(block + 8, out);
    decode_fifth_bits(block + 4, out);
  }
};

}  // namespace tandem
