// CUDA's arithmetic, conversion and bit functions, for the host.
#pragma once

#include <math.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>

// Declared by glibc's math.h too, as names of its own for the same functions.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __saturatef(float x) { return x > 0 ? fminf(x, 1.0f) : 0.0f; }  // a NaN becomes 0

inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }

namespace cuda_emulation {

/// To an int as cvt.s32.f32 does: clamped, a NaN becomes 0; on the host both are undefined.
inline int clamp_to_int(float rounded) {
  if (isnan(rounded)) return 0;
  if (rounded >= 0x1p31f) return INT32_MAX;
  if (rounded <= -0x1p31f) return INT32_MIN;
  return static_cast<int>(rounded);
}

}  // namespace cuda_emulation

inline int __float2int_rn(float x) { return cuda_emulation::clamp_to_int(nearbyintf(x)); }
inline int __float2int_rz(float x) { return cuda_emulation::clamp_to_int(truncf(x)); }
inline int __float2int_rd(float x) { return cuda_emulation::clamp_to_int(floorf(x)); }
inline int __float2int_ru(float x) { return cuda_emulation::clamp_to_int(ceilf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1;
}
inline int __mulhi(int x, int y) {
  return static_cast<int>(static_cast<int64_t>(x) * static_cast<int64_t>(y) >> 32);
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<uint64_t>(x) * y >> 32);
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
  return reversed;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32) | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32 | low) << (shift & 31)) >> 32);
}
/// Byte i of the result is byte s_i of {y, x}, or its sign eight times where s_i has bit 3 set.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selectors) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned selector = selectors >> (4 * i) & 0xf;
    const auto byte = static_cast<unsigned>(bytes >> (8 * (selector & 7)) & 0xff);
    const unsigned sign = byte & 0x80 ? 0xff : 0;
    result |= (selector & 8 ? sign : byte) << (8 * i);
  }
  return result;
}

namespace cuda_emulation {

inline int signed_byte(unsigned x, int i) { return static_cast<int8_t>(x >> (8 * i) & 0xff); }
inline int unsigned_byte(unsigned x, int i) { return static_cast<int>(x >> (8 * i) & 0xff); }

template <class Function>
unsigned for_bytes(Function byte) {
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= (static_cast<unsigned>(byte(i)) & 0xff) << (8 * i);
  return result;
}

}  // namespace cuda_emulation

/// c + the four products of signed bytes; sums wrap.
inline int __dp4a(int a, int b, int c) {
  auto sum = static_cast<unsigned>(c);
  for (int i = 0; i < 4; ++i)
    sum += static_cast<unsigned>(cuda_emulation::signed_byte(static_cast<unsigned>(a), i) *
                                 cuda_emulation::signed_byte(static_cast<unsigned>(b), i));
  return static_cast<int>(sum);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i)
    c += static_cast<unsigned>(cuda_emulation::unsigned_byte(a, i) *
                               cuda_emulation::unsigned_byte(b, i));
  return c;
}
inline unsigned __vadd4(unsigned a, unsigned b) {
  return cuda_emulation::for_bytes([&](int i) {
    return cuda_emulation::unsigned_byte(a, i) + cuda_emulation::unsigned_byte(b, i);
  });
}
inline unsigned __vsub4(unsigned a, unsigned b) {
  return cuda_emulation::for_bytes([&](int i) {
    return cuda_emulation::unsigned_byte(a, i) - cuda_emulation::unsigned_byte(b, i);
  });
}
inline unsigned __vsubss4(unsigned a, unsigned b) {
  return cuda_emulation::for_bytes([&](int i) {
    return std::clamp(cuda_emulation::signed_byte(a, i) - cuda_emulation::signed_byte(b, i), -128,
                      127);
  });
}

// CUDA has min and max of every pair of arithmetic types without a namespace.
inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long min(long a, long b) { return b < a ? b : a; }
inline long max(long a, long b) { return a < b ? b : a; }
inline unsigned long min(unsigned long a, unsigned long b) { return b < a ? b : a; }
inline unsigned long max(unsigned long a, unsigned long b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return b < a ? b : a; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

[[noreturn]] inline void __trap() { abort(); }
