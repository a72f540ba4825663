// Whether a plan gives the logits that the same model gives on one unit.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/executor.h"

namespace tandem {

/// Logits of two plans over the same input.
struct Agreement {
  int64_t rows = 0;
  bool identical = false;  ///< bit by bit
  bool must_be_identical = false;
  double relative_error = 0;  ///< |logits - reference| / |reference| over all rows
  double tolerance = 0;       ///< 0 where they must be identical

  bool holds() const { return identical || (!must_be_identical && relative_error <= tolerance); }
};

/// Columns and whole heads dealt out to units of one kernel set change no bit; a head cut by
/// positions, or another kernel set, changes the order of sums.
bool keeps_every_bit(const Plan& plan, const std::vector<Unit>& units);

/// What two orders of summation may make of a model's logits. They differ in the last bit, so some
/// activations (Q8 for quantised weights, BF16 for BF16) or cached keys are rounded the other way,
/// which turns more of them in the next layer, until the two differ as two independent roundings
/// do: sqrt(2) x the error of one, which grows with the root of the layers. Measured on
/// tinyllama-1.1b, heads cut at position 256: q8_0 3.7e-2 of 8.6e-2, bf16 6.2e-3 of 2.5e-2.
double rounding_tolerance(const ModelSpec& model, DType kv_dtype);

/// |a - b| / |b|. The spans are of one size.
double relative_l2(std::span<const float> a, std::span<const float> b);

struct AgreementInput {
  int64_t prompt = 64;  ///< tokens of a prefill, the last rows of which are compared
  int64_t context = 0;  ///< depth of the decode steps that are compared, over a filled cache
  int64_t steps = 4;
};

/// Runs a prefill and some decode steps with the plan, and with `alone`, everything on one unit.
/// The executor holds both, of these units, and caches for context + steps positions.
Agreement check_agreement(Executor& executor, const ModelSpec& model, const Plan& plan,
                          const Plan& alone, const std::vector<Unit>& units,
                          const AgreementInput& input);

}  // namespace tandem
