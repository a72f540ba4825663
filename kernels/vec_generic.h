// Sixteen lanes in plain C++ that any compiler turns into whatever the machine has.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

struct Vec {
  float lane[16];
};
struct IVec {
  int32_t lane[16];
};
/// 16 groups of 4 consecutive bytes, one group per lane.
struct Bytes {
  uint8_t byte[64];
};

template <class Function>
inline Vec each(Function f) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = f(i);
  return r;
}
template <class Function>
inline IVec ieach(Function f) {
  IVec r;
  for (int i = 0; i < 16; ++i) r.lane[i] = f(i);
  return r;
}

inline Vec broadcast(float x) {
  return each([=](int) { return x; });
}
inline Vec zero() { return broadcast(0); }
inline Vec load(const float* p) {
  Vec r;
  __builtin_memcpy(&r, p, sizeof r);
  return r;
}
inline void store(float* p, Vec x) { __builtin_memcpy(p, &x, sizeof x); }
inline Vec load_f16(const void* p) {
  uint16_t half[16];
  __builtin_memcpy(half, p, sizeof half);
  return each([&](int i) { return f16_to_f32(half[i]); });
}
inline void store_f16(void* p, Vec x) {
  uint16_t half[16];
  for (int i = 0; i < 16; ++i) half[i] = f32_to_f16(x.lane[i]);
  __builtin_memcpy(p, half, sizeof half);
}
inline Vec load_bf16(const void* p) {
  uint16_t bits[16];
  __builtin_memcpy(bits, p, sizeof bits);
  return each([&](int i) { return bf16_to_f32(bits[i]); });
}
inline Vec broadcast_f16(const void* p) {
  uint16_t half;
  __builtin_memcpy(&half, p, sizeof half);
  return broadcast(f16_to_f32(half));
}
inline Vec add(const Vec& x, const Vec& y) {
  return each([&](int i) { return x.lane[i] + y.lane[i]; });
}
inline Vec sub(const Vec& x, const Vec& y) {
  return each([&](int i) { return x.lane[i] - y.lane[i]; });
}
inline Vec mul(const Vec& x, const Vec& y) {
  return each([&](int i) { return x.lane[i] * y.lane[i]; });
}
inline Vec div(const Vec& x, const Vec& y) {
  return each([&](int i) { return x.lane[i] / y.lane[i]; });
}
inline Vec max(const Vec& x, const Vec& y) {
  return each([&](int i) { return x.lane[i] > y.lane[i] ? x.lane[i] : y.lane[i]; });
}
inline Vec min(const Vec& x, const Vec& y) {
  return each([&](int i) { return x.lane[i] < y.lane[i] ? x.lane[i] : y.lane[i]; });
}
/// x * y + z, rounded twice: machines without FMA would take a library call for one rounding.
inline Vec fma(const Vec& x, const Vec& y, const Vec& z) {
  return each([&](int i) { return x.lane[i] * y.lane[i] + z.lane[i]; });
}
inline Vec abs(const Vec& x) {
  return each([&](int i) { return __builtin_fabsf(x.lane[i]); });
}
inline IVec round_to_int(const Vec& x) {
  // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even, below 2^22.
  return ieach(
      [&](int i) { return static_cast<int32_t>((x.lane[i] + 12582912.0f) - 12582912.0f); });
}
inline Vec to_float(const IVec& x) {
  return each([&](int i) { return static_cast<float>(x.lane[i]); });
}
inline IVec ibroadcast(int32_t x) {
  return ieach([=](int) { return x; });
}
inline void istore(int32_t* p, const IVec& x) { __builtin_memcpy(p, &x, sizeof x); }
inline void store_int8(int8_t* p, const IVec& x) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(x.lane[i]);
}
inline int32_t reduce_add(const IVec& x) {
  int32_t sum = 0;
  for (int32_t lane : x.lane) sum += lane;
  return sum;
}
inline float reduce_add(const Vec& x) {
  float sum = 0;
  for (float lane : x.lane) sum += lane;
  return sum;
}
inline float reduce_max(const Vec& x) {
  float top = x.lane[0];
  for (float lane : x.lane) top = lane > top ? lane : top;
  return top;
}
/// x * 2^n for results that are normal numbers.
inline Vec scale2(const Vec& x, const IVec& n) {
  return each([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(n.lane[i] + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, 4);
    return x.lane[i] * power;
  });
}
/// Lanes of y where x >= limit, elsewhere 0.
inline Vec zero_below(const Vec& y, const Vec& x, const Vec& limit) {
  return each([&](int i) { return x.lane[i] >= limit.lane[i] ? y.lane[i] : 0.0f; });
}

inline Bytes load_bytes(const std::byte* p) {
  Bytes r;
  __builtin_memcpy(&r, p, sizeof r);
  return r;
}
/// (byte >> shift) & mask of every byte, where no bit of a neighbour gets under the mask.
inline Bytes bits_of(const Bytes& x, int shift, int mask) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.byte[i] = static_cast<uint8_t>((x.byte[i] >> shift) & mask);
  return r;
}
/// low | ((x >> from) & mask) << to, of every byte; the bits lie within it at both places.
inline Bytes with_bits(const Bytes& low, const Bytes& x, int from, int mask, int to) {
  Bytes r;
  for (int i = 0; i < 64; ++i)
    r.byte[i] = static_cast<uint8_t>(low.byte[i] | ((x.byte[i] >> from) & mask) << to);
  return r;
}
/// table[byte] for bytes below 16, with an offset of 128.
inline Bytes values_of(const Bytes& x, const int8_t (&table)[16]) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.byte[i] = static_cast<uint8_t>(table[x.byte[i]] + 128);
  return r;
}
/// byte - offset, as signed bytes.
inline Bytes signed_bytes(const Bytes& x, int offset) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.byte[i] = static_cast<uint8_t>(x.byte[i] - offset);
  return r;
}
inline IVec load_i8(const std::byte* p) {
  return ieach([=](int i) { return static_cast<int8_t>(p[i]); });
}
inline IVec load_u8(const std::byte* p) {
  return ieach([=](int i) { return static_cast<int32_t>(p[i]); });
}
/// Four bits of each byte.
inline IVec load_u4(const std::byte* p, int shift) {
  return ieach([=](int i) { return (static_cast<int32_t>(p[i]) >> shift) & 15; });
}

/// What times_byte() multiplies byte i of every lane with.
struct ByteFactor {
  Vec factor;
};
inline ByteFactor byte_factor(const Vec& factor) { return {factor}; }
inline Vec times_byte(const Bytes& x, int i, const ByteFactor& by) {
  return each(
      [&](int lane) { return by.factor.lane[lane] * static_cast<float>(x.byte[4 * lane + i]); });
}
/// One token's upper nibbles are multiplied where they are, 16 times as large.
inline constexpr bool kNibblesInPlace = true;
/// x / 16, of multiples of it.
inline IVec sixteenth(const IVec& x) {
  return ieach([&](int i) { return x.lane[i] / 16; });
}

/// first * sums.first + last * sums.last in every lane.
template <int first, int last>
IVec times_sums(const HalfSums& sums) {
  return ibroadcast(first * sums.first + last * sums.last);
}

constexpr int groups_at_once(int /*largest*/) { return 1; }
template <int N>
IVec dot_groups(const IVec& acc, const Bytes* w, const int8_t* x) {
  static_assert(N == 1);
  return ieach([&](int i) {
    const uint8_t* quad = w->byte + 4 * i;
    return acc.lane[i] + quad[0] * x[0] + quad[1] * x[1] + quad[2] * x[2] + quad[3] * x[3];
  });
}
// Bytes with an offset of 128 are multiplied as they are, and sums begin at -128 * sum(x).
inline constexpr int kOffset8Taken = 128;
inline IVec dot_offset8(const IVec& acc, const Bytes& w, const int8_t* x) {
  return dot_groups<1>(acc, &w, x);
}

/// 16 lanes of two consecutive bfloat16 each.
inline Vec bf16_half(const Bytes& pairs, int half) {
  return each([&](int i) {
    uint16_t bits;
    __builtin_memcpy(&bits, pairs.byte + 4 * i + 2 * half, 2);
    return bf16_to_f32(bits);
  });
}
inline Vec even_bf16(const Bytes& pairs) { return bf16_half(pairs, 0); }
inline Vec odd_bf16(const Bytes& pairs) { return bf16_half(pairs, 1); }
inline constexpr bool kHasBF16Dot = false;
inline Vec dot_bf16(const Vec& acc, const Bytes&, const uint16_t*) { return acc; }

// Register blocking: sixteen lanes are four SSE registers of sixteen.
inline constexpr int kMaxTokens = 2;
constexpr int tokens_together(int /*subs*/) { return 1; }
inline constexpr int kQueryRows = 2;
inline constexpr int kValueRows = 2;
inline constexpr int kValueVecs = 1;
