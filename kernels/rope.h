// Angles of rotary position embedding: the frequencies of a model and the table a step needs. The
// rotation itself is a kernel's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem {

/// [rope_dim / 2] radians per position: base^(-2i / rope_dim) / factors[i] (Su et al. 2021, eq. 15;
/// the factors are Llama 3's, none = 1). In double: a float's error would grow with the position.
std::vector<double> inverse_frequencies(double base, int64_t rope_dim,
                                        std::span<const float> factors);

/// Fills QkvArgs::cos_sin: cosine and sine of positions[t] * frequencies[i], computed in double and
/// rounded once. `cos_sin` is [positions.size() x frequencies.size() x 2].
void fill_rope_table(std::span<const int64_t> positions, std::span<const double> frequencies,
                     float* cos_sin);

}  // namespace tandem
