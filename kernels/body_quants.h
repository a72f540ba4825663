// Dot products with panels of quantised blocks in general (see quant_format.h). Included by
// isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

/// The eight groups of 32 elements as bytes, one per quant.
template <class Format>
void unpack_quants(const std::byte* quants, Bytes (&w)[8]) {
  constexpr QuantFormat f = Format::kFormat;
  const auto line = [quants](int i) { return load_bytes(quants + 64 * i); };
#pragma GCC unroll 16
  for (int g = 0; g < 8; ++g)
    w[g] = f.low_bits == 8   ? line(g)
           : f.low_bits == 4 ? bits_of(line(g % 4), g < 4 ? 0 : 4, 15)
                             : bits_of(line(g / 4), 2 * (g % 4), 3);
  if constexpr (f.high_bits > 0) {
#pragma GCC unroll 16
    for (int g = 0; g < 8; ++g) {
      const Bytes high = f.high_bits == 1 ? bits_of(line(f.low_bits), g, 1)
                                          : bits_of(line(f.low_bits + g / 4), 2 * (g % 4), 3);
      w[g] = with_high(w[g], high, f.low_bits);
    }
  }
  if constexpr (f.table) {
#pragma GCC unroll 16
    for (int g = 0; g < 8; ++g) w[g] = values_of(w[g], kIq4Values);
  }
}

/// d and the minimums' factor of a superblock, or of a block without scales.
struct BlockFactors {
  Vec d, shift;
};
template <class Format>
BlockFactors load_factors(const std::byte* stretch, int64_t block) {
  constexpr QuantFormat f = Format::kFormat;
  return {load_f16(stretch + f.d_at(block)),
          f.has_min ? load_f16(stretch + f.shift_at(block)) : zero()};
}

/// What a quant of each sub-block of 32 elements is multiplied with, and what is added for it.
template <int kSubs>
struct SubFactors {
  Vec scale[kSubs], shift[kSubs];
};
template <class Format>
SubFactors<32 / Format::kFormat.sub> load_scales(const std::byte* stretch, int64_t block,
                                                 const BlockFactors& of) {
  constexpr QuantFormat f = Format::kFormat;
  constexpr int kSubs = 32 / f.sub;
  if constexpr (f.superblock == 32) return {{of.d}, {of.shift}};
  SubFactors<kSubs> factors;
#pragma GCC unroll 2
  for (int i = 0; i < kSubs; ++i) {
    const int64_t sub = block * kSubs + i;
    const std::byte* scales = stretch + f.scales_at(sub);
    factors.scale[i] = mul(of.d, to_float(f.nibble_scales ? load_u4(scales, 0) : load_i8(scales)));
    if constexpr (f.has_min)
      factors.shift[i] = mul(
          of.shift,
          to_float(f.nibble_scales ? load_u4(scales, 4) : load_u8(stretch + f.minimums_at(sub))));
  }
  return factors;
}

/// Quants as they lie in a panel: bytes 0 .. largest, from which `offset` is taken.
struct QuantRange {
  int largest;  ///< 255: the offset is 128
  int offset;
};
/// The sum over N groups of quants, less the offset; x_sum: of their inputs.
template <QuantRange kRange, int N>
IVec dot_quants(const Bytes* w, const int8_t* x, int32_t x_sum) {
  if constexpr (kRange.largest > 127)
    return dot_offset8<N>(start_offset8(x_sum), w, x);
  else
    return dot_u7<kRange.largest, N>(ibroadcast(-kRange.offset * x_sum), w, x);
}

/// kMost: tokens at once by vectors. (Ten formats in blocks of 16 tokens took the compiler minutes
/// for each instruction set.)
template <class Format, int kMost>
class QuantPanels {
  static constexpr QuantFormat f = Format::kFormat;
  static constexpr int kSubs = 32 / f.sub;
  static constexpr int64_t kBlocks = f.span() / 32;  // of a stretch
  static constexpr QuantRange kRange =
      f.table ? QuantRange{255, 128} : QuantRange{(1 << (f.low_bits + f.high_bits)) - 1, f.offset};

 public:
  // Blocks are independent but for one add, and one stream reads fastest: Zen 4, two cores, Q8_0,
  // share of the DRAM read: 1 panel 99 %, 2 panels 82 %, 4 panels 75 %.
  static constexpr int kPanelsOfOne = 1;
  static constexpr int kTokens = kHasTiles ? 16 : kMost < kMaxTokens ? kMost : kMaxTokens;
  static constexpr int kGroups = 8 / kSubs;  ///< of four quants, in a sub-block

  /// Whether a block of so many tokens is multiplied by tiles. A tile takes as long for one token
  /// as for eight, and for 16 elements as for 32. (Emerald Rapids, one core, 16 tokens, GOP/s by
  /// vectors and by tiles: Q8_0 285, 549; Q4_0 258, 485; Q4_K 248, 400; Q6_K 199, 255. Of 8 tokens:
  /// Q8_0 288, 333; Q6_K 200, 164.)
  static constexpr bool by_tiles(int64_t tokens) { return kHasTiles && tokens >= 8 * kSubs; }

  /// Inlined, all of it, so that sums stay in registers.
  template <int P, int T>
  [[gnu::always_inline]] static void multiply(const Operands& o, Vec (&acc)[P][T]) {
    static_assert(P == 1);
    if constexpr (by_tiles(T))
      multiply_by_tiles(o, acc[0]);
    else
      multiply_by_vectors(o, acc[0]);
  }

 private:
  template <int T>
  [[gnu::always_inline]] static void multiply_by_vectors(const Operands& o, Vec (&acc)[T]) {
    const int64_t blocks = o.k / 32;
    const std::byte* stretch = o.panels;
    for (int64_t first = 0; first < blocks; first += kBlocks, stretch += f.stretch_bytes()) {
      BlockFactors factors = load_factors<Format>(stretch, 0);
      const int64_t end = first + kBlocks < blocks ? kBlocks : blocks - first;
      for (int64_t i = 0; i < end; ++i) {
        if (f.superblock == 32 && i > 0) factors = load_factors<Format>(stretch, i);
        const std::byte* quants = fetched_quants(o, stretch, i);
        const SubFactors<kSubs> of = load_scales<Format>(stretch, i, factors);
        Bytes w[8];
        unpack_quants<Format>(quants, w);
        add_block(
            o, first + i, of,
            [&w](int /*token*/, int sub, const int8_t* x, int32_t x_sum) {
              return dot_quants<kRange, kGroups>(w + kGroups * sub, x, x_sum);
            },
            acc);
      }
    }
  }

  /// Sums of quants are integers, so the same as those by vectors. They take long to come: those of
  /// a batch are all under way before the first is used (one at a time: 68 cycles a block of 16
  /// tokens on an Emerald Rapids, four 45, of which scaling the sums takes 21).
  template <int T>
  [[gnu::always_inline]] static void multiply_by_tiles(const Operands& o, Vec (&acc)[T]) {
    const int64_t blocks = o.k / 32;
    constexpr int64_t kBatch = kTileProducts / kSubs;
    alignas(64) std::byte unpacked[kBatch][8][64];
    alignas(64) int32_t products[kTileProducts][T][16];
    for (int64_t first = 0; first < blocks; first += kBatch) {
      const std::byte *x[kTileProducts], *w[kTileProducts];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kBatch; ++i) {  // beyond the end the last one once more
        const int64_t b = first + i < blocks ? first + i : blocks - 1;
        unpack_signed(o, b, unpacked[i]);
#pragma GCC unroll 16
        for (int s = 0; s < kSubs; ++s) {
          x[kSubs * i + s] = o.x + 32 * b + 4 * kGroups * s;
          w[kSubs * i + s] = unpacked[i][kGroups * s];
        }
      }
      tile_products(x, o.x_stride, w, products);
      for (int64_t b = first; b < blocks && b < first + kBatch; ++b) {
        const std::byte* stretch = stretch_of(o, b);
        const SubFactors<kSubs> of =
            load_scales<Format>(stretch, b % kBlocks, load_factors<Format>(stretch, b % kBlocks));
        add_block(
            o, b, of,
            [sums = products + kSubs * (b - first)](int token, int sub, const int8_t* /*x*/,
                                                    int32_t /*x_sum*/) {
              IVec sum;
              __builtin_memcpy(&sum, sums[sub][token], sizeof sum);
              return sum;
            },
            acc);
      }
    }
  }

  static const std::byte* stretch_of(const Operands& o, int64_t block) {
    return o.panels + block / kBlocks * f.stretch_bytes();
  }
  /// Quants of block i of a stretch, those far ahead asked for.
  static const std::byte* fetched_quants(const Operands& o, const std::byte* stretch, int64_t i) {
    const std::byte* quants = stretch + f.quants_at(i);
    if (o.from_memory) fetch_ahead<f.stretch_bytes() / kBlocks>(quants);
    return quants;
  }
  /// The eight groups of a block as signed bytes, with nothing left to be taken from their
  /// products: eight subtractions a block instead of one a token.
  static void unpack_signed(const Operands& o, int64_t block, std::byte (&out)[8][64]) {
    Bytes w[8];
    unpack_quants<Format>(fetched_quants(o, stretch_of(o, block), block % kBlocks), w);
#pragma GCC unroll 16
    for (Bytes& group : w)
      if (kRange.offset != 0) group = signed_bytes(group, kRange.offset);
    __builtin_memcpy(out, w, sizeof out);
  }

  /// acc += what block b adds for each token, whose sums of quants are sum(token, sub-block, inputs
  /// of the sub-block, their sum). Inlined, so that acc stays in registers.
  template <int T, class Sum>
  [[gnu::always_inline]] static void add_block(const Operands& o, int64_t b,
                                               const SubFactors<kSubs>& of, const Sum& sum,
                                               Vec (&acc)[T]) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const Q8Row x = q8_row(const_cast<std::byte*>(o.x + t * o.x_stride), o.k);
      const int32_t sums[2] = {kSubs == 1 ? x.sum[b] : x.first_sum[b], x.sum[b] - x.first_sum[b]};
      const float x_scale = x.scale[b];
#pragma GCC unroll 2
      for (int s = 0; s < kSubs; ++s) {
        const IVec dots = sum(t, s, x.q + 32 * b + 4 * kGroups * s, sums[s]);
        acc[t] = fma(to_float(dots), mul(of.scale[s], broadcast(x_scale)), acc[t]);
        if constexpr (f.has_min) {
          const float scaled = kSubs == 1 ? x.scaled_sum[b] : x_scale * static_cast<float>(sums[s]);
          acc[t] = fma(of.shift[s], broadcast(scaled), acc[t]);
        }
      }
    }
  }
};
