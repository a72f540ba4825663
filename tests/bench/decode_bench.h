// Decode of a whole model against the memory's limit, measured in the same run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace tandem {

/// Medians over rounds in which the three were measured in turn.
struct DecodeRow {
  DType dtype = DType::kF32;
  double dram_read_per_s = 0;  ///< bytes/s, all cores, huge pages
  double one_unit_per_s = 0;   ///< weight bytes/s of decode, one unit of all cores
  double one_unit_tokens_per_s = 0;
  double share = 0;         ///< decode over the DRAM read of the same round
  double share_spread = 0;  ///< interquartile range of it over its median
  double split_over_one =
      0;  ///< one unit per core, columns split evenly, over one unit, in the same round
};

/// Context 0, one token a step, synthetic weights of a compiled-in shape.
DecodeRow bench_decode(const std::string& shape, DType dtype, const std::vector<int>& cores,
                       int rounds);

}  // namespace tandem
