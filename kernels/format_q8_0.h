// Q8_0: blocks of 32; f16 d, 32 x 8 bit, which a panel holds with an offset of 128 (pack.cpp).
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q8_0 {
  static constexpr QuantFormat kFormat{.superblock = 32, .sub = 32, .low_bits = 8, .offset = 128};
};

}  // namespace tandem
