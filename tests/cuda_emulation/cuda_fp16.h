// Stands in for CUDA's header of this name: half and pairs of it, on tandem's own conversions.
#pragma once

#include <cstdint>

#include "emulation/vector_types.h"
#include "emulation/words.h"
#include "kernels/half.h"

struct __half_raw {
  unsigned short x;
};

class __half {
 public:
  __half() = default;
  __half(float value) : bits_(tandem::f32_to_f16(value)) {}
  __half(const __half_raw& raw) : bits_(raw.x) {}
  operator __half_raw() const { return {bits_}; }
  operator float() const { return tandem::f16_to_f32(bits_); }

 private:
  uint16_t bits_;
};
using half = __half;

struct alignas(4) __half2 {
  __half x, y;
};
using half2 = __half2;

inline unsigned short __half_as_ushort(__half h) { return static_cast<__half_raw>(h).x; }
inline __half __ushort_as_half(unsigned short bits) { return __half_raw{bits}; }
inline float __half2float(__half h) { return static_cast<float>(h); }
inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline __half2 __float22half2_rn(float2 x) { return {x.x, x.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }
inline float __low2float(__half2 h) { return __half2float(h.x); }
inline float __high2float(__half2 h) { return __half2float(h.y); }

// Through float: a product is exact there; a sum of far apart exponents is rounded twice, a GPU's
// once.
inline __half __hadd(__half a, __half b) { return __half2float(a) + __half2float(b); }
inline __half __hsub(__half a, __half b) { return __half2float(a) - __half2float(b); }
inline __half __hmul(__half a, __half b) { return __half2float(a) * __half2float(b); }
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline __half2 __hsub2(__half2 a, __half2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; }
inline __half2 __hmul2(__half2 a, __half2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }
