// Scalar conversions between float and the 16-bit floats, for host and device. Vectors have their
// own in vec_*.h.
#pragma once

#include <stdint.h>
#include <string.h>

namespace tandem {

__host__ __device__ static inline uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

__host__ __device__ static inline float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/// IEEE binary16 to float, exact; subnormals, infinities and NaN payloads included.
__host__ __device__ static inline float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  const uint32_t subnormal = float_bits(static_cast<float>(magnitude) * 0x1p-24f);
  const uint32_t rebias = 112u << 23;  // 127 - 15; infinity and NaN go from 31 to 255, twice that
  const uint32_t normal = (magnitude << 13) + rebias + (magnitude >= 0x7c00 ? rebias : 0);
  return bits_float(sign | (magnitude < 0x0400 ? subnormal : normal));
}

/// Float to IEEE binary16, to nearest with ties to even; a NaN stays one and becomes quiet.
__host__ __device__ static inline uint16_t f32_to_f16(float x) {
  const uint32_t sign = float_bits(x) >> 16 & 0x8000;
  const uint32_t magnitude = float_bits(x) & 0x7fffffff;
  const uint32_t infinity = 0x7f800000;
  uint32_t half;
  if (magnitude > infinity) {
    half = 0x7e00 | (magnitude >> 13 & 0x3ff);
  } else if (magnitude >= 0x477ff000) {  // 65520, half way between the largest number and 65536
    half = 0x7c00;
  } else if (magnitude >= 0x38800000) {  // 2^-14, the smallest normal number
    const uint32_t rebiased = magnitude - (112u << 23);
    half = (rebiased + 0xfff + (rebiased >> 13 & 1)) >> 13;
  } else {  // a float in [0.5, 1) has steps of 2^-24, as a subnormal half has
    half = float_bits(bits_float(magnitude) + 0.5f) - float_bits(0.5f);
  }
  return static_cast<uint16_t>(sign | half);
}

/// bfloat16 to float, exact.
__host__ __device__ static inline float bf16_to_f32(uint16_t bits) {
  return bits_float(static_cast<uint32_t>(bits) << 16);
}

/// Float to bfloat16, to nearest with ties to even; a NaN stays one and becomes quiet.
__host__ __device__ static inline uint16_t f32_to_bf16(float x) {
  const uint32_t bits = float_bits(x);
  const uint32_t quiet_nan = bits >> 16 | 0x40;
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

}  // namespace tandem
