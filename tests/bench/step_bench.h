// Steps of several tokens, and prefill, against the memory and the arithmetic of the same run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace tandem {

struct StepRow {
  int64_t tokens = 0;
  double seconds = 0;        ///< median
  double spread = 0;         ///< interquartile range over it
  double over_one = 0;       ///< median of its time over that of one token in the same round
  double of_memory = 0;      ///< weight bytes/s over the DRAM read of the same round
  double of_arithmetic = 0;  ///< operations/s over the peak of the same round

  double tokens_per_s() const { return static_cast<double>(tokens) / seconds; }
};

/// What a round measured of the machine, medians.
struct StepTable {
  double dram_read_per_s = 0;  ///< bytes/s, all cores
  double peak_per_s = 0;       ///< operations/s on registers, all cores, as the dtype's kernels do
  std::vector<StepRow> rows;
};

/// Steps of `widths` tokens (ascending, from 1; those above 16 as prefill does them, one row of
/// logits) at context 0, `rounds` times in turn; one unit of `cores`.
StepTable bench_steps(const std::string& shape, DType dtype, const std::vector<int>& cores,
                      const std::vector<int64_t>& widths, int rounds);

}  // namespace tandem
