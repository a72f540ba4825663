// Pseudo-random weights in file format, fast and the same for everyone who asks for the same rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/dtype.h"
#include "kernels/range.h"

namespace tandem {

/// One well-mixed number from two (the finaliser of splitmix64; Steele et al. 2014).
uint64_t mix_seed(uint64_t seed, uint64_t index);

/// Rows [rows.begin, rows.end) of a matrix [columns x k], to out [rows.size() x row_bytes(dtype,
/// k)]. Each row depends on seed and its number alone. Elements are uniform with mean 0 and
/// standard deviation 1/sqrt(k), so that y = W x keeps the variance of x; scales of blocks differ.
void fill_rows(DType dtype, int64_t k, uint64_t seed, Range rows, std::byte* out);

/// Uniform in [centre - radius, centre + radius).
void fill_vector(uint64_t seed, float centre, float radius, std::span<float> out);

}  // namespace tandem
