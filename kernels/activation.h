// How prepared inputs lie in memory (see ActivationFormat). Internal linkage: ISA files compile
// their own copies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_set.h"

namespace tandem {

/// Sums of the quants of a block's first and last 16.
struct HalfSums {
  int16_t first, last;
};
static_assert(sizeof(HalfSums) == 4);

/// The stretches of one row in format kQ8, each starting on a cache line.
struct Q8Row {
  int8_t* q;          ///< [k]
  float* scale;       ///< [k / 32]
  HalfSums* sums;     ///< [k / 32]
  float* scaled_sum;  ///< [k / 32], scale x sum: what a minimum is multiplied with
};

static inline Q8Row q8_row(std::byte* row, int64_t k) {
  const int64_t scales = (k + 63) / 64 * 64;
  const int64_t stretch = (k / 32 * 4 + 63) / 64 * 64;
  return {reinterpret_cast<int8_t*>(row), reinterpret_cast<float*>(row + scales),
          reinterpret_cast<HalfSums*>(row + scales + stretch),
          reinterpret_cast<float*>(row + scales + 2 * stretch)};
}

}  // namespace tandem
