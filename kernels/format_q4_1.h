// Q4_1: blocks of 32; f16 d, f16 minimum, 32 x 4 bit.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q4_1 {
  static constexpr QuantFormat kFormat{.superblock = 32, .sub = 32, .low_bits = 4, .has_min = true};
  static constexpr int64_t kDAt = 0, kShiftAt = 2;
  static void decode(const std::byte* block, int64_t, Quants& out) {
    out.d = half_at(block + kDAt);
    out.shift = half_at(block + kShiftAt);
    decode_nibbles(block + 4, out);
  }
};

}  // namespace tandem
