#include "kernels/rope.h"

#include <cassert>
#include <cmath>

namespace tandem {

std::vector<double> inverse_frequencies(double base, int64_t rope_dim,
                                        std::span<const float> factors) {
  std::vector<double> frequencies(static_cast<size_t>(rope_dim / 2));
  assert(factors.empty() || factors.size() == frequencies.size());
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rope_dim);
    frequencies[i] = std::pow(base, exponent) / (factors.empty() ? 1.0 : factors[i]);
  }
  return frequencies;
}

void fill_rope_table(std::span<const int64_t> positions, std::span<const double> frequencies,
                     float* cos_sin) {
  for (const int64_t position : positions) {
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      *cos_sin++ = static_cast<float>(std::cos(angle));
      *cos_sin++ = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace tandem
