// Stands in for CUDA's header of this name: bfloat16 and pairs of it, on tandem's own conversions.
#pragma once

#include <cstdint>

#include "emulation/vector_types.h"
#include "emulation/words.h"
#include "kernels/half.h"

struct __nv_bfloat16_raw {
  unsigned short x;
};

class __nv_bfloat16 {
 public:
  __nv_bfloat16() = default;
  __nv_bfloat16(float value) : bits_(tandem::f32_to_bf16(value)) {}
  __nv_bfloat16(const __nv_bfloat16_raw& raw) : bits_(raw.x) {}
  operator __nv_bfloat16_raw() const { return {bits_}; }
  operator float() const { return tandem::bf16_to_f32(bits_); }

 private:
  uint16_t bits_;
};
using nv_bfloat16 = __nv_bfloat16;

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
using nv_bfloat162 = __nv_bfloat162;

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) {
  return static_cast<__nv_bfloat16_raw>(b).x;
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16_raw{bits}; }
inline float __bfloat162float(__nv_bfloat16 b) { return static_cast<float>(b); }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline float2 __bfloat1622float2(__nv_bfloat162 b) {
  return {__bfloat162float(b.x), __bfloat162float(b.y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 x) { return {x.x, x.y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline float __low2float(__nv_bfloat162 b) { return __bfloat162float(b.x); }
inline float __high2float(__nv_bfloat162 b) { return __bfloat162float(b.y); }
