// Sixteen lanes in four NEON registers of AArch64.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

struct Vec {
  float32x4_t q[4];
};
struct IVec {
  int32x4_t q[4];
};
/// 16 groups of 4 consecutive bytes, one group per lane.
struct Bytes {
  uint8x16_t q[4];
};

/// A value of type Result whose register i is f(i).
template <class Result, class Function>
inline Result each(Function f) {
  return {{f(0), f(1), f(2), f(3)}};
}

inline Vec broadcast(float x) {
  return each<Vec>([=](int) { return vdupq_n_f32(x); });
}
inline Vec zero() { return broadcast(0); }
inline Vec load(const float* p) {
  return each<Vec>([=](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float* p, Vec x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.q[i]);
}
inline Vec load_f16(const void* p) {
  return each<Vec>([=](int i) {
    uint16x4_t bits;  // no alignment is promised
    __builtin_memcpy(&bits, static_cast<const uint16_t*>(p) + 4 * i, sizeof bits);
    return vcvt_f32_f16(vreinterpret_f16_u16(bits));
  });
}
inline void store_f16(void* p, Vec x) {
  for (int i = 0; i < 4; ++i) {
    const uint16x4_t bits = vreinterpret_u16_f16(vcvt_f16_f32(x.q[i]));
    __builtin_memcpy(static_cast<uint16_t*>(p) + 4 * i, &bits, sizeof bits);
  }
}
inline Vec load_bf16(const void* p) {
  return each<Vec>([=](int i) {
    uint16x4_t bits;
    __builtin_memcpy(&bits, static_cast<const uint16_t*>(p) + 4 * i, sizeof bits);
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
  });
}
inline Vec broadcast_f16(const void* p) {
  uint16_t half;
  __builtin_memcpy(&half, p, sizeof half);
  return broadcast(f16_to_f32(half));
}
inline Vec add(Vec x, Vec y) {
  return each<Vec>([&](int i) { return vaddq_f32(x.q[i], y.q[i]); });
}
inline Vec sub(Vec x, Vec y) {
  return each<Vec>([&](int i) { return vsubq_f32(x.q[i], y.q[i]); });
}
inline Vec mul(Vec x, Vec y) {
  return each<Vec>([&](int i) { return vmulq_f32(x.q[i], y.q[i]); });
}
inline Vec div(Vec x, Vec y) {
  return each<Vec>([&](int i) { return vdivq_f32(x.q[i], y.q[i]); });
}
inline Vec max(Vec x, Vec y) {
  return each<Vec>([&](int i) { return vmaxq_f32(x.q[i], y.q[i]); });
}
inline Vec min(Vec x, Vec y) {
  return each<Vec>([&](int i) { return vminq_f32(x.q[i], y.q[i]); });
}
inline Vec fma(Vec x, Vec y, Vec z) {
  return each<Vec>([&](int i) { return vfmaq_f32(z.q[i], x.q[i], y.q[i]); });
}
inline Vec abs(Vec x) {
  return each<Vec>([&](int i) { return vabsq_f32(x.q[i]); });
}
/// Ties to even.
inline IVec round_to_int(Vec x) {
  return each<IVec>([&](int i) { return vcvtnq_s32_f32(x.q[i]); });
}
inline Vec to_float(IVec x) {
  return each<Vec>([&](int i) { return vcvtq_f32_s32(x.q[i]); });
}
inline IVec ibroadcast(int32_t x) {
  return each<IVec>([=](int) { return vdupq_n_s32(x); });
}
inline void istore(int32_t* p, IVec x) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, x.q[i]);
}
inline void store_int8(int8_t* p, IVec x) {
  const int16x8_t low = vcombine_s16(vqmovn_s32(x.q[0]), vqmovn_s32(x.q[1]));
  const int16x8_t high = vcombine_s16(vqmovn_s32(x.q[2]), vqmovn_s32(x.q[3]));
  vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}
inline int32_t reduce_add(IVec x) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(x.q[0], x.q[1]), vaddq_s32(x.q[2], x.q[3])));
}
inline float reduce_add(Vec x) {
  return vaddvq_f32(vaddq_f32(vaddq_f32(x.q[0], x.q[1]), vaddq_f32(x.q[2], x.q[3])));
}
inline float reduce_max(Vec x) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.q[0], x.q[1]), vmaxq_f32(x.q[2], x.q[3])));
}
/// x * 2^n for results that are normal numbers.
inline Vec scale2(Vec x, IVec n) {
  const int32x4_t bias = vdupq_n_s32(127);
  return each<Vec>([&](int i) {
    return vmulq_f32(x.q[i], vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.q[i], bias), 23)));
  });
}
/// Lanes of y where x >= limit, elsewhere 0.
inline Vec zero_below(Vec y, Vec x, Vec limit) {
  return each<Vec>([&](int i) {
    const uint32x4_t kept = vcgeq_f32(x.q[i], limit.q[i]);
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(y.q[i]), kept));
  });
}

inline Bytes load_bytes(const std::byte* p) {
  return each<Bytes>([=](int i) { return vld1q_u8(reinterpret_cast<const uint8_t*>(p) + 16 * i); });
}
/// (byte >> shift) & mask of every byte.
inline Bytes bits_of(Bytes x, int shift, int mask) {
  const int8x16_t right = vdupq_n_s8(static_cast<int8_t>(-shift));
  const uint8x16_t kept = vdupq_n_u8(static_cast<uint8_t>(mask));
  return each<Bytes>([&](int i) {
    const uint8x16_t shifted = vshlq_u8(x.q[i], right);
    return mask == 255 >> shift ? shifted : vandq_u8(shifted, kept);  // GCC 12 masks both
  });
}
/// low | ((x >> from) & mask) << to, of every byte; the bits lie within it at both places.
inline Bytes with_bits(Bytes low, Bytes x, int from, int mask, int to) {
  const int8x16_t left = vdupq_n_s8(static_cast<int8_t>(to - from));
  const uint8x16_t kept = vdupq_n_u8(static_cast<uint8_t>(mask << to));
  return each<Bytes>(
      [&](int i) { return vorrq_u8(low.q[i], vandq_u8(vshlq_u8(x.q[i], left), kept)); });
}
/// table[byte] for bytes below 16, with an offset of 128.
inline Bytes values_of(Bytes x, const int8_t (&table)[16]) {
  const uint8x16_t values = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(table)), vdupq_n_u8(128));
  return each<Bytes>([&](int i) { return vqtbl1q_u8(values, x.q[i]); });
}
/// byte - offset, as signed bytes.
inline Bytes signed_bytes(Bytes x, int offset) {
  const uint8x16_t taken = vdupq_n_u8(static_cast<uint8_t>(offset));
  return each<Bytes>([&](int i) { return vsubq_u8(x.q[i], taken); });
}
inline IVec load_i8(const std::byte* p) {
  const int8x16_t bytes = vld1q_s8(reinterpret_cast<const int8_t*>(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)),
           vmovl_high_s16(high)}};
}
/// Of bytes that a function of their register makes.
template <class Function>
inline IVec widen_u8(const std::byte* p, const Function& f) {
  const uint8x16_t bytes = f(vld1q_u8(reinterpret_cast<const uint8_t*>(p)));
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
  const auto to_signed = [](uint32x4_t x) { return vreinterpretq_s32_u32(x); };
  return {{to_signed(vmovl_u16(vget_low_u16(low))), to_signed(vmovl_high_u16(low)),
           to_signed(vmovl_u16(vget_low_u16(high))), to_signed(vmovl_high_u16(high))}};
}
inline IVec load_u8(const std::byte* p) {
  return widen_u8(p, [](uint8x16_t bytes) { return bytes; });
}
/// Four bits of each byte.
inline IVec load_u4(const std::byte* p, int shift) {
  return widen_u8(p, [shift](uint8x16_t bytes) {
    return vandq_u8(vshlq_u8(bytes, vdupq_n_s8(static_cast<int8_t>(-shift))), vdupq_n_u8(15));
  });
}

/// What times_byte() multiplies byte i of every lane with.
struct ByteFactor {
  Vec factor;
};
inline ByteFactor byte_factor(Vec factor) { return {factor}; }
inline Vec times_byte(Bytes x, int i, const ByteFactor& by) {
  return mul(by.factor, each<Vec>([&](int r) {
               const uint32x4_t lanes = vreinterpretq_u32_u8(x.q[r]);
               const uint32x4_t there = vshlq_u32(lanes, vdupq_n_s32(-8 * i));
               return vcvtq_f32_u32(vandq_u32(there, vdupq_n_u32(255)));
             }));
}
inline constexpr bool kNibblesInPlace = false;  // one shift of bytes takes them apart

/// first * sums.first + last * sums.last in every lane.
template <int first, int last>
IVec times_sums(const HalfSums& sums) {
  return ibroadcast(first * sums.first + last * sums.last);
}

/// The same four bytes in every group.
inline int8x16_t load_quad(const int8_t* x) {
  int32_t quad;
  __builtin_memcpy(&quad, x, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}
constexpr int groups_at_once(int /*largest*/) { return 1; }
#ifdef __ARM_FEATURE_MATMUL_INT8
/// acc + sum of the 4 products w * x per lane.
template <int N>
IVec dot_groups(IVec acc, const Bytes* w, const int8_t* x) {
  static_assert(N == 1);
  const int8x16_t quad = load_quad(x);
  return each<IVec>([&](int i) { return vusdotq_s32(acc.q[i], w->q[i], quad); });
}
// Bytes with an offset of 128 are multiplied as they are, and sums begin at -128 * sum(x).
inline constexpr int kOffset8Taken = 128;
inline IVec dot_offset8(IVec acc, Bytes w, const int8_t* x) { return dot_groups<1>(acc, &w, x); }

/// 8 k of columns 0 and 1, and of columns 2 and 3, from two groups of 4 k of four columns.
inline uint8x16x2_t pairs_of_columns(uint8x16_t first, uint8x16_t second) {
  const uint32x4x2_t pairs = vzipq_u32(vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second));
  return {{vreinterpretq_u8_u32(pairs.val[0]), vreinterpretq_u8_u32(pairs.val[1])}};
}
/// k 0 to 7 of two tokens, and k 8 to 15.
inline int8x16x2_t pair_of_tokens(const int8_t* even, const int8_t* odd) {
  const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(even)), b = vreinterpretq_s64_s8(vld1q_s8(odd));
  return {{vreinterpretq_s8_s64(vzip1q_s64(a, b)), vreinterpretq_s8_s64(vzip2q_s64(a, b))}};
}
/// acc[t] + the products of N groups with the input at x + t * x_stride. A product of matrices adds
/// to sums of two columns x two tokens. Four columns are done before the next four begin: then
/// their weights and the tokens' inputs stay in registers.
template <int N, int T>
void dot_tokens(IVec (&acc)[T], const Bytes* w, const int8_t* x, int64_t x_stride) {
  int8x16x2_t inputs[N / 4][T / 2];
#pragma GCC unroll 16
  for (int g = 0; g < N; g += 4)
#pragma GCC unroll 16
    for (int t = 0; t < T; t += 2)
      inputs[g / 4][t / 2] =
          pair_of_tokens(x + t * x_stride + 4 * g, x + (t + 1) * x_stride + 4 * g);
#pragma GCC unroll 16
  for (int q = 0; q < 4; ++q) {
    int32x4x2_t sum[T / 2];  // of columns 0 and 1, and 2 and 3: [column][token]
#pragma GCC unroll 16
    for (int t = 0; t < T; t += 2) sum[t / 2] = vzipq_s32(acc[t].q[q], acc[t + 1].q[q]);
#pragma GCC unroll 16
    for (int g = 0; g < N; g += 2) {
      const uint8x16x2_t columns = pairs_of_columns(w[g].q[q], w[g + 1].q[q]);
#pragma GCC unroll 16
      for (int t = 0; t < T / 2; ++t)
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i)
          sum[t].val[i] =
              vusmmlaq_s32(sum[t].val[i], columns.val[i], inputs[g / 4][t].val[g / 2 % 2]);
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; t += 2) {
      const int32x4x2_t of = vuzpq_s32(sum[t / 2].val[0], sum[t / 2].val[1]);
      acc[t].q[q] = of.val[0];
      acc[t + 1].q[q] = of.val[1];
    }
  }
}
#else
/// acc + sum of the 4 products w * x per lane.
inline int32x4_t dot_quads(int32x4_t acc, int8x16_t w, int8x16_t x) {
#ifdef __ARM_FEATURE_DOTPROD
  return vdotq_s32(acc, w, x);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(w, x));
  return vaddq_s32(acc, vpaddq_s32(low, high));
#endif
}
// Bytes with an offset of 128 are signed bytes with their highest bit turned.
inline constexpr int kOffset8Taken = 0;
inline IVec dot_offset8(IVec acc, Bytes w, const int8_t* x) {
  const int8x16_t quad = load_quad(x);
  return each<IVec>([&](int i) {
    const uint8x16_t turned = veorq_u8(w.q[i], vdupq_n_u8(128));
    return dot_quads(acc.q[i], vreinterpretq_s8_u8(turned), quad);
  });
}
template <int N>
IVec dot_groups(IVec acc, const Bytes* w, const int8_t* x) {
  static_assert(N == 1);
  const int8x16_t quad = load_quad(x);
  return each<IVec>([&](int i) { return dot_quads(acc.q[i], vreinterpretq_s8_u8(w->q[i]), quad); });
}
#endif

/// 16 lanes of two consecutive bfloat16 each.
inline Vec even_bf16(Bytes pairs) {
  return each<Vec>([&](int i) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(pairs.q[i]), 16));
  });
}
inline Vec odd_bf16(Bytes pairs) {
  return each<Vec>([&](int i) {
    return vreinterpretq_f32_u32(
        vandq_u32(vreinterpretq_u32_u8(pairs.q[i]), vdupq_n_u32(0xffff0000)));
  });
}
inline constexpr bool kHasBF16Dot = false;
inline Vec dot_bf16(Vec acc, Bytes, const uint16_t*) { return acc; }

// Register blocking: sixteen lanes are four of the thirty-two registers.
inline constexpr int kMaxTokens = 4;
#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr int tokens_together(int /*subs*/) { return 4; }  // two pairs share the zips of weights
#else
constexpr int tokens_together(int /*subs*/) { return 1; }
#endif
inline constexpr int kQueryRows = 4;
inline constexpr int kValueRows = 4;
inline constexpr int kValueVecs = 1;
