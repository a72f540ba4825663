// What the CUDA linear kernels compute beside their loads, stores and products (those are in
// cuda_chunk_math.h): preparation of inputs, and what follows a product. For host and device; `Ops`
// are the conversions, dot products and look-ups that a GPU has instructions for.
#pragma once

#include <math.h>
#include <stdint.h>

#include "kernels/half.h"
#include "kernels/quant_format.h"

namespace tandem::cuda {

/// Eight of kIq4Values, the first in the lowest byte.
constexpr uint64_t iq4_values_from(int first) {
  uint64_t values = 0;
  for (int i = 0; i < 8; ++i)
    values |= static_cast<uint64_t>(static_cast<uint8_t>(kIq4Values[first + i])) << 8 * i;
  return values;
}
inline constexpr uint64_t kIq4Lower = iq4_values_from(0), kIq4Upper = iq4_values_from(8);

/// In plain code what kernels/cuda_formats.cuh does with instructions. Exact, so the bits are the
/// same.
struct PortableOps {
  static __device__ float from_f16(uint16_t bits) { return f16_to_f32(bits); }
  /// sum + the dot product of four signed bytes.
  static __device__ int32_t dot4(uint32_t a, uint32_t b, int32_t sum) {
    for (int i = 0; i < 32; i += 8)
      sum += static_cast<int8_t>(a >> i & 0xff) * static_cast<int8_t>(b >> i & 0xff);
    return sum;
  }
  /// kIq4Values of the lower and of the upper nibbles of four bytes.
  static __device__ void look_up(uint32_t nibbles, uint32_t& lower, uint32_t& upper) {
    const uint64_t low_half = kIq4Lower, high_half = kIq4Upper;
    lower = upper = 0;
    for (int i = 0; i < 32; i += 4) {
      const uint32_t quant = nibbles >> i & 15;
      const uint64_t half = quant < 8 ? low_half : high_half;
      const auto value = static_cast<uint32_t>(half >> quant % 8 * 8 & 0xff);
      (i % 8 == 0 ? lower : upper) |= value << i / 8 * 8;
    }
  }
  /// a + b, rounded; never contracted with a product.
  static __device__ float add(float a, float b) { return a + b; }
};

// --- inputs
// ----------------------------------------------------------------------------------------

/// What a row is multiplied with before its norm's weight.
__host__ __device__ static inline float rms_scale(float squares, int64_t n, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
}

/// Quants of a block of 32 whose largest magnitude is `top` are round(x * inverse), ties to even;
/// they count for top / 127.
__host__ __device__ static inline float quant_inverse(float top) {
  return top > 1e-30f ? 127.0f / top : 0.0f;  // of less it would be infinite
}
__host__ __device__ static inline float quant_scale(float top) { return top / 127.0f; }
__host__ __device__ static inline int32_t quantize(float x, float inverse) {
  return static_cast<int32_t>(rintf(x * inverse));
}

// --- results
// ---------------------------------------------------------------------------------------

/// silu(gate) * up, silu(g) = g / (1 + e^-g). (Shazeer 2020, eq. 6)
template <class Ops>
__device__ float swiglu(float gate, float up) {
  return gate / Ops::add(1.0f, expf(-gate)) * up;
}

/// A value that may be the largest, and where it stands.
struct Candidate {
  float value;
  int32_t index;
};
/// Smaller than any value, and behind all. (No constant: device code may not read a struct of the
/// host's.)
__host__ __device__ static inline Candidate no_candidate() { return {-INFINITY, INT32_MAX}; }
/// Of equal values the earlier one; what is no number is never larger.
__host__ __device__ static inline Candidate larger(Candidate a, Candidate b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

/// RoPE of one pair. (Su et al. 2021, eq. 15)
struct Pair {
  float first;
  float second;
};
__host__ __device__ static inline Pair rotate(Pair x, float cosine, float sine) {
  return {fmaf(x.first, cosine, -(x.second * sine)), fmaf(x.first, sine, x.second * cosine)};
}

/// The elements of a head that RoPE's i-th pair rotates.
struct PairIndex {
  int first;
  int second;
};
__host__ __device__ static inline PairIndex rope_pair(int i, int rope_dim, bool neox) {
  if (neox) return {i, i + rope_dim / 2};
  return {2 * i, 2 * i + 1};
}

}  // namespace tandem::cuda
