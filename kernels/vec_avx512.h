// Sixteen lanes in one AVX-512 register; VNNI and BF16 dot products where the compilation has them.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

struct Vec {
  __m512 v;
};
struct IVec {
  __m512i v;
};
/// 16 groups of 4 consecutive bytes, one group per lane, ready to be multiplied as unsigned bytes.
struct Bytes {
  __m512i v;
};

inline Vec zero() { return {_mm512_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
inline Vec load_f16(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
inline void store_f16(void* p, Vec a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Vec load_bf16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
inline Vec broadcast_f16(const void* p) {
  int16_t half;
  __builtin_memcpy(&half, p, sizeof half);
  return {_mm512_cvtph_ps(_mm256_set1_epi16(half))};
}
inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec sub(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec mul(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec div(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
inline IVec round_to_int(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }  // ties to even (MXCSR)
inline Vec to_float(IVec a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline IVec ibroadcast(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline void istore(int32_t* p, IVec a) { _mm512_storeu_si512(p, a.v); }
inline void store_int8(int8_t* p, IVec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a.v));
}
inline int32_t reduce_add(IVec a) { return _mm512_reduce_add_epi32(a.v); }
inline float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }
/// a * 2^n.
inline Vec scale2(Vec a, IVec n) { return {_mm512_scalef_ps(a.v, _mm512_cvtepi32_ps(n.v))}; }
/// Lanes of a where x >= limit, elsewhere 0.
inline Vec zero_below(Vec a, Vec x, Vec limit) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_GE_OQ), a.v)};
}

inline Bytes load_bytes(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
/// (byte >> shift) & mask of every byte, where no bit of a neighbour gets under the mask.
inline Bytes bits_of(Bytes x, int shift, int mask) {
  const __m512i kept = _mm512_set1_epi8(static_cast<char>(mask));
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, static_cast<unsigned>(shift)), kept)};
}
/// low | ((x >> from) & mask) << to, of every byte; the bits lie within it at both places.
inline Bytes with_bits(Bytes low, Bytes x, int from, int mask, int to) {
  const __m512i moved = from > to ? _mm512_srli_epi16(x.v, static_cast<unsigned>(from - to))
                                  : _mm512_slli_epi16(x.v, static_cast<unsigned>(to - from));
  const __m512i kept = _mm512_set1_epi8(static_cast<char>(mask << to));
  return {_mm512_ternarylogic_epi32(low.v, moved, kept, 0xf8)};  // low | (moved & kept)
}
/// table[byte] for bytes below 16, with an offset of 128.
inline Bytes values_of(Bytes x, const int8_t (&table)[16]) {
  const __m128i values =
      _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), _mm_set1_epi8(-128));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), x.v)};
}
/// byte - offset, as signed bytes.
inline Bytes signed_bytes(Bytes x, int offset) {
  return {_mm512_sub_epi8(x.v, _mm512_set1_epi8(static_cast<char>(offset)))};
}
inline __m128i load_sixteen(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline IVec load_i8(const std::byte* p) { return {_mm512_cvtepi8_epi32(load_sixteen(p))}; }
inline IVec load_u8(const std::byte* p) { return {_mm512_cvtepu8_epi32(load_sixteen(p))}; }
/// Four bits of each byte.
inline IVec load_u4(const std::byte* p, int shift) {
  return {_mm512_and_si512(_mm512_srli_epi32(load_u8(p).v, static_cast<unsigned>(shift)),
                           _mm512_set1_epi32(15))};
}

/// What times_byte() multiplies bytes with. Byte i of a lane becomes the lowest bits of 2^23: one
/// shuffle and one fma, rounded once, instead of shuffle, conversion and multiplication.
struct ByteFactor {
  Vec factor, offset;
};
inline ByteFactor byte_factor(Vec factor) { return {factor, mul(factor, broadcast(-0x1p23f))}; }
inline Vec times_byte(Bytes x, int i, const ByteFactor& by) {
  const __m512i from = _mm512_add_epi32(_mm512_set4_epi32(12, 8, 4, 0), _mm512_set1_epi32(i));
  const __m512i number =
      _mm512_mask_shuffle_epi8(_mm512_set1_epi32(0x4b000000), 0x1111111111111111, x.v, from);
  return fma({_mm512_castsi512_ps(number)}, by.factor, by.offset);
}

// Bytes with an offset of 128: VNNI multiplies them as they are, and sums begin at -128 * sum(x);
// without it vpmaddubsw would saturate, so the offset is taken back and the sign moved to x.
#ifdef __AVX512VNNI__
inline constexpr bool kNibblesInPlace = true;
/// x / 16, of multiples of it.
inline IVec sixteenth(IVec x) { return {_mm512_srai_epi32(x.v, 4)}; }
/// first * sums.first + last * sums.last in every lane: one product of pairs instead of broadcasts
/// from other registers.
template <int first, int last>
IVec times_sums(const HalfSums& sums) {
  static_assert(first >= -0x8000 && last >= -0x8000 && first < 0x8000 && last < 0x8000);
  const __m512i pairs = _mm512_set1_epi32((last * 0x10000) | (first & 0xffff));
  __m512i sum = _mm512_setzero_si512();
  asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(pairs), "m"(sums));
  return {sum};
}
/// acc + the products of w and the input's quad. Of the intrinsic and a broadcast GCC 12 makes two
/// instructions. (Zen 4, 16 tokens of Q4_0 from the L2 206 -> 192 us, Q8_0 198 -> 193.)
inline IVec dot_quad(IVec acc, Bytes w, const int8_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(acc.v)
      : "v"(w.v), "m"(*reinterpret_cast<const int8_t(*)[4]>(x)));
  return acc;
}
inline constexpr int kOffset8Taken = 128;
inline IVec dot_offset8(IVec acc, Bytes w, const int8_t* x) { return dot_quad(acc, w, x); }
constexpr int groups_at_once(int /*largest*/) { return 1; }
template <int N>
IVec dot_groups(IVec acc, const Bytes* w, const int8_t* x) {
  static_assert(N == 1);
  return dot_quad(acc, *w, x);
}
/// Four tokens' chains of sums in turn; of two sub-blocks they would not fit. (Zen 4, 16 tokens of
/// Q4_K from the L2 221 -> 211 us, Q6_K 215 -> 234.)
constexpr int tokens_together(int subs) { return subs == 1 ? 4 : 1; }
/// acc[t] + the products of N groups with the input at x + t * x_stride.
template <int N, int T>
void dot_tokens(IVec (&acc)[T], const Bytes* w, const int8_t* x, int64_t x_stride) {
#pragma GCC unroll 16
  for (int g = 0; g < N; ++g)
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = dot_quad(acc[t], w[g], x + t * x_stride + 4 * g);
}
#else
inline constexpr bool kNibblesInPlace = false;  // 16 times as large their products would saturate
template <int first, int last>
IVec times_sums(const HalfSums& sums) {
  return ibroadcast(first * sums.first + last * sums.last);
}
inline int32_t load_quad(const int8_t* x) {
  int32_t quad;
  __builtin_memcpy(&quad, x, 4);
  return quad;
}
inline constexpr int kOffset8Taken = 0;
/// acc + sum of the 4 products (w - 128) * x per lane.
inline IVec dot_offset8(IVec acc, Bytes w, const int8_t* x) {
  const __m512i quad = _mm512_set1_epi32(load_quad(x));
  const __m512i weight = _mm512_xor_si512(w.v, _mm512_set1_epi8(-128));
  const __m512i signed_x =
      _mm512_mask_sub_epi8(quad, _mm512_movepi8_mask(weight), _mm512_setzero_si512(), quad);
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(weight), signed_x);
  return {_mm512_add_epi32(acc.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}
/// How many groups' sums of two products fit in 16 bits together: they are widened once then.
constexpr int groups_at_once(int largest) { return 32767 / (2 * 127 * largest); }
template <int N>
IVec dot_groups(IVec acc, const Bytes* w, const int8_t* x) {
  __m512i pairs = _mm512_maddubs_epi16(w->v, _mm512_set1_epi32(load_quad(x)));
#pragma GCC unroll 16
  for (int i = 1; i < N; ++i)
    pairs = _mm512_add_epi16(pairs,
                             _mm512_maddubs_epi16(w[i].v, _mm512_set1_epi32(load_quad(x + 4 * i))));
  return {_mm512_add_epi32(acc.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}
constexpr int tokens_together(int /*subs*/) { return 1; }
#endif

/// 16 lanes of two consecutive bfloat16 each.
inline Vec even_bf16(Bytes pairs) { return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs.v, 16))}; }
inline Vec odd_bf16(Bytes pairs) {
  return {_mm512_castsi512_ps(_mm512_and_si512(pairs.v, _mm512_set1_epi32(~0xffff)))};
}

#ifdef __AVX512BF16__
inline constexpr bool kHasBF16Dot = true;
inline Vec dot_bf16(Vec acc, Bytes w, const uint16_t* x) {
  // One instruction, as dot_quad(). (Zen 4, 16 tokens from the L2 330 -> 293 us.)
  asm("vdpbf16ps %2%{1to16%}, %1, %0"
      : "+v"(acc.v)
      : "v"(w.v), "m"(*reinterpret_cast<const uint16_t(*)[2]>(x)));
  return acc;
}
#else
inline constexpr bool kHasBF16Dot = false;
inline Vec dot_bf16(Vec acc, Bytes, const uint16_t*) { return acc; }
#endif

// Register blocking: accumulators that fit beside the operands.
inline constexpr int kMaxTokens = 16;  ///< tokens at once over one panel
inline constexpr int kQueryRows = 8;   ///< attention rows at once over one key panel
inline constexpr int kValueRows = 4;   ///< attention rows x value vectors at once
inline constexpr int kValueVecs = 4;
