// IQ4_NL: blocks of 32; f16 d, 32 x 4 bit that index values.
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct IQ4_NL {
  static constexpr QuantFormat kFormat{.superblock = 32, .sub = 32, .low_bits = 4, .table = true};
  static constexpr int64_t kDAt = 0;
  static void decode(const std::byte* block, int64_t, Quants& out) {
    out.d = half_at(block + kDAt);
    decode_nibbles(block + 2, out);
  }
};

}  // namespace tandem
