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
  double dram_read_per_s = 0;    ///< bytes/s, all cores, huge pages
  double one_unit_per_s = 0;     ///< weight bytes/s of decode, one unit of all cores
  double split_units_per_s = 0;  ///< the same, one unit per core, columns split evenly
  double one_unit_tokens_per_s = 0;
  double spread = 0;  ///< interquartile range of one_unit over its median
};

/// Context 0, one token a step, synthetic weights of a compiled-in shape.
DecodeRow bench_decode(const std::string& shape, DType dtype, const std::vector<int>& cores,
                       int rounds);

}  // namespace tandem
