// Q5_0: blocks of 32; f16 d, 32 fifth bits, 32 x 4 bit.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q5_0 {
  static constexpr QuantFormat kFormat{
      .superblock = 32, .sub = 32, .low_bits = 4, .high_bits = 1, .offset = 16};
  static constexpr int64_t kDAt = 0;
  static void decode(const std::byte* block, int64_t, Quants& out) {
    out.d = half_at(block + kDAt);
    decode_nibbles(block + 6, out);
    decode_fifth_bits(block + 2, out);
  }
};

}  // namespace tandem
