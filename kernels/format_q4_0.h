// Q4_0: blocks of 32; f16 d, 32 x 4 bit. (Packed by pack.cpp.)
#pragma once

#include "kernels/quant_format.h"

namespace tandem {

struct Q4_0 {
  static constexpr QuantFormat kFormat{.superblock = 32, .sub = 32, .low_bits = 4, .offset = 8};
};

}  // namespace tandem
