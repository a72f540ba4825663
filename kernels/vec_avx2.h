// Sixteen lanes in two AVX2 registers (with FMA and F16C, and AVX-VNNI where it is compiled for).
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

struct Vec {
  __m256 a, b;
};
struct IVec {
  __m256i a, b;
};
/// 16 groups of 4 consecutive bytes, one group per lane, ready to be multiplied as unsigned bytes.
struct Bytes {
  __m256i a, b;
};

inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Vec x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
inline Vec load_f16(const void* p) {
  const __m128i* halves = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
inline void store_f16(void* p, Vec x) {
  __m128i* halves = static_cast<__m128i*>(p);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Vec load_bf16(const void* p) {
  const __m128i* quads = static_cast<const __m128i*>(p);
  const __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(quads));
  const __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128(quads + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
inline Vec broadcast_f16(const void* p) {
  int16_t half;
  __builtin_memcpy(&half, p, sizeof half);
  const __m256 x = _mm256_cvtph_ps(_mm_set1_epi16(half));
  return {x, x};
}
inline Vec add(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vec sub(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vec mul(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vec div(Vec x, Vec y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Vec max(Vec x, Vec y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vec min(Vec x, Vec y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Vec fma(Vec x, Vec y, Vec z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Vec abs(Vec x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline IVec round_to_int(Vec x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline Vec to_float(IVec x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline IVec ibroadcast(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline void istore(int32_t* p, IVec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
inline void store_int8(int8_t* p, IVec x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
inline int32_t reduce_add(IVec x) {
  const __m256i half = _mm256_add_epi32(x.a, x.b);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}
inline float reduce_add(Vec x) {
  const __m256 half = _mm256_add_ps(x.a, x.b);
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
inline float reduce_max(Vec x) {
  const __m256 half = _mm256_max_ps(x.a, x.b);
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}
/// x * 2^n for results that are normal numbers.
inline Vec scale2(Vec x, IVec n) {
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 pa = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23));
  const __m256 pb = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23));
  return {_mm256_mul_ps(x.a, pa), _mm256_mul_ps(x.b, pb)};
}
/// Lanes of y where x >= limit, elsewhere 0.
inline Vec zero_below(Vec y, Vec x, Vec limit) {
  return {_mm256_and_ps(y.a, _mm256_cmp_ps(x.a, limit.a, _CMP_GE_OQ)),
          _mm256_and_ps(y.b, _mm256_cmp_ps(x.b, limit.b, _CMP_GE_OQ))};
}

inline Bytes load_bytes(const std::byte* p) {
  const __m256i* halves = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
/// (byte >> shift) & mask of every byte, where no bit of a neighbour gets under the mask.
inline Bytes bits_of(Bytes x, int shift, int mask) {
  const __m256i kept = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(_mm256_srli_epi16(x.a, shift), kept),
          _mm256_and_si256(_mm256_srli_epi16(x.b, shift), kept)};
}
/// low | ((x >> from) & mask) << to, of every byte; the bits lie within it at both places.
inline Bytes with_bits(Bytes low, Bytes x, int from, int mask, int to) {
  const __m256i kept = _mm256_set1_epi8(static_cast<char>(mask << to));
  const auto moved = [&](__m256i v) {
    const __m256i there =
        from > to ? _mm256_srli_epi16(v, from - to) : _mm256_slli_epi16(v, to - from);
    return _mm256_and_si256(there, kept);
  };
  return {_mm256_or_si256(low.a, moved(x.a)), _mm256_or_si256(low.b, moved(x.b))};
}
/// table[byte] for bytes below 16, with an offset of 128.
inline Bytes values_of(Bytes x, const int8_t (&table)[16]) {
  const __m128i values =
      _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), _mm_set1_epi8(-128));
  const __m256i both = _mm256_broadcastsi128_si256(values);
  return {_mm256_shuffle_epi8(both, x.a), _mm256_shuffle_epi8(both, x.b)};
}
inline __m128i load_eight(const std::byte* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
/// byte - offset, as signed bytes.
inline Bytes signed_bytes(Bytes x, int offset) {
  const __m256i taken = _mm256_set1_epi8(static_cast<char>(offset));
  return {_mm256_sub_epi8(x.a, taken), _mm256_sub_epi8(x.b, taken)};
}
inline IVec load_i8(const std::byte* p) {
  return {_mm256_cvtepi8_epi32(load_eight(p)), _mm256_cvtepi8_epi32(load_eight(p + 8))};
}
inline IVec load_u8(const std::byte* p) {
  return {_mm256_cvtepu8_epi32(load_eight(p)), _mm256_cvtepu8_epi32(load_eight(p + 8))};
}
/// Four bits of each byte.
inline IVec load_u4(const std::byte* p, int shift) {
  const IVec bytes = load_u8(p);
  const __m256i mask = _mm256_set1_epi32(15);
  return {_mm256_and_si256(_mm256_srli_epi32(bytes.a, shift), mask),
          _mm256_and_si256(_mm256_srli_epi32(bytes.b, shift), mask)};
}

/// What times_byte() multiplies byte i of every lane with.
struct ByteFactor {
  Vec factor;
};
inline ByteFactor byte_factor(Vec factor) { return {factor}; }
inline Vec times_byte(Bytes x, int i, const ByteFactor& by) {
  const __m256i mask = _mm256_set1_epi32(255);
  return mul(by.factor, to_float({_mm256_and_si256(_mm256_srli_epi32(x.a, 8 * i), mask),
                                  _mm256_and_si256(_mm256_srli_epi32(x.b, 8 * i), mask)}));
}

/// first * sums.first + last * sums.last in every lane.
template <int first, int last>
IVec times_sums(const HalfSums& sums) {
  return ibroadcast(first * sums.first + last * sums.last);
}

inline __m256i load_quad(const int8_t* x) {
  int32_t quad;
  __builtin_memcpy(&quad, x, 4);
  return _mm256_set1_epi32(quad);
}

#ifdef __AVXVNNI__
inline constexpr bool kNibblesInPlace = true;
/// x / 16, of multiples of it.
inline IVec sixteenth(IVec x) { return {_mm256_srai_epi32(x.a, 4), _mm256_srai_epi32(x.b, 4)}; }
// Bytes with an offset of 128 are multiplied as they are, and sums begin at -128 * sum(x).
inline constexpr int kOffset8Taken = 128;
constexpr int groups_at_once(int /*largest*/) { return 1; }
template <int N>
IVec dot_groups(IVec acc, const Bytes* w, const int8_t* x) {
  static_assert(N == 1);
  const __m256i quad = load_quad(x);
  return {_mm256_dpbusd_avx_epi32(acc.a, w->a, quad), _mm256_dpbusd_avx_epi32(acc.b, w->b, quad)};
}
inline IVec dot_offset8(IVec acc, Bytes w, const int8_t* x) { return dot_groups<1>(acc, &w, x); }
#else
// Bytes with an offset of 128. vpmaddubsw saturates above 128 * 127 * 2, so the offset is taken
// back and the sign moved to x.
inline constexpr int kOffset8Taken = 0;
inline constexpr bool kNibblesInPlace = false;  // 16 times as large their products would saturate
inline __m256i quad_sums(__m256i w, __m256i x) {
  const __m256i weight = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(x, weight));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
/// acc + sum of the 4 products (w - 128) * x per lane.
inline IVec dot_offset8(IVec acc, Bytes w, const int8_t* x) {
  const __m256i quad = load_quad(x);
  return {_mm256_add_epi32(acc.a, quad_sums(w.a, quad)),
          _mm256_add_epi32(acc.b, quad_sums(w.b, quad))};
}
/// How many groups' sums of two products fit in 16 bits together: they are widened once then.
constexpr int groups_at_once(int largest) { return 32767 / (2 * 127 * largest); }
template <int N>
IVec dot_groups(IVec acc, const Bytes* w, const int8_t* x) {
  __m256i quad = load_quad(x);
  __m256i a = _mm256_maddubs_epi16(w->a, quad), b = _mm256_maddubs_epi16(w->b, quad);
#pragma GCC unroll 16
  for (int i = 1; i < N; ++i) {
    quad = load_quad(x + 4 * i);
    a = _mm256_add_epi16(a, _mm256_maddubs_epi16(w[i].a, quad));
    b = _mm256_add_epi16(b, _mm256_maddubs_epi16(w[i].b, quad));
  }
  const __m256i one = _mm256_set1_epi16(1);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(a, one)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(b, one))};
}
#endif

/// 16 lanes of two consecutive bfloat16 each.
inline Vec even_bf16(Bytes pairs) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs.a, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(pairs.b, 16))};
}
inline Vec odd_bf16(Bytes pairs) {
  const __m256i mask = _mm256_set1_epi32(~0xffff);
  return {_mm256_castsi256_ps(_mm256_and_si256(pairs.a, mask)),
          _mm256_castsi256_ps(_mm256_and_si256(pairs.b, mask))};
}
inline constexpr bool kHasBF16Dot = false;
inline Vec dot_bf16(Vec acc, Bytes, const uint16_t*) { return acc; }

// Register blocking: accumulators that fit beside the operands.
inline constexpr int kMaxTokens = 4;
constexpr int tokens_together(int /*subs*/) { return 1; }
inline constexpr int kQueryRows = 4;
inline constexpr int kValueRows = 2;
inline constexpr int kValueVecs = 2;
