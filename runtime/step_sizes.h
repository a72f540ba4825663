// How large the buffers are that units exchange in a step: what allocate_buffers() makes, and what
// a plan counts before there are any. Pure.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "sim/plan.h"

namespace tandem {

/// The largest step.
struct BufferSizes {
  int64_t tokens = 1;
  int64_t logits_rows = 1;
};

/// Sizes of StepBuffers' members of the same names, in elements.
struct StepSizes {
  int64_t x = 0;
  int64_t q = 0;
  int64_t attended = 0;
  int64_t h = 0;
  int64_t logits = 0;
  int64_t states = 0;       ///< how many parts may leave partial states
  int64_t floats_each = 0;  ///< of one part's states
  int64_t cos_sin = 0;
  int64_t layers = 0;  ///< that have new keys and values:
  KvView step;         ///< of one layer, without memory

  int64_t bytes() const;
};

StepSizes step_sizes(const ModelSpec& spec, const Plan& plan, const BufferSizes& sizes);

}  // namespace tandem
