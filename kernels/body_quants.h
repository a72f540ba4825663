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
    w[g] = f.low_bits == 4 ? bits_of(line(g % 4), g < 4 ? 0 : 4, 15)
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

template <class Format>
struct QuantPanels {
  static constexpr QuantFormat f = Format::kFormat;
  static constexpr int kPanelsOfOne = 1;  // as of BlockPanels
  // Ten formats in blocks of 16 tokens took the compiler minutes for each instruction set.
  static constexpr int kTokens = kMaxTokens < 4 ? kMaxTokens : 4;
  static constexpr int kSubs = 32 / f.sub;
  static constexpr int kLargest = f.table ? kOffset8 : (1 << (f.low_bits + f.high_bits)) - 1;
  static constexpr int64_t kBlocks = f.span() / 32;  // of a stretch

  template <int P, int T>
  static void multiply(const Operands& o, Vec (&acc)[P][T]) {
    const int64_t blocks = o.k / 32;
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const std::byte* stretch = o.panels + p * o.panel_stride;
      for (int64_t first = 0; first < blocks; first += kBlocks, stretch += f.stretch_bytes()) {
        BlockFactors factors = load_factors<Format>(stretch, 0);
        const int64_t end = first + kBlocks < blocks ? kBlocks : blocks - first;
        for (int64_t i = 0; i < end; ++i) {
          if (f.superblock == 32 && i > 0) factors = load_factors<Format>(stretch, i);
          multiply_block(o, stretch, i, first + i, factors, acc[p]);
        }
      }
    }
  }

 private:
  /// Block i of a stretch, which is block b of the row. Inlined, so that sums stay in registers.
  template <int T>
  [[gnu::always_inline]] static void multiply_block(const Operands& o, const std::byte* stretch,
                                                    int64_t i, int64_t b,
                                                    const BlockFactors& factors, Vec (&acc)[T]) {
    const std::byte* quants = stretch + f.quants_at(i);
    if (o.from_memory) fetch_ahead<f.stretch_bytes() / kBlocks>(quants);
    const SubFactors<kSubs> of = load_scales<Format>(stretch, i, factors);
    Bytes w[8];
    unpack_quants<Format>(quants, w);
#pragma GCC unroll 16
    for (int t = 0; t < T; t += kTogether<T>)
#pragma GCC unroll 2
      for (int s = 0; s < kSubs; ++s) {
        int32_t x_sum[kTogether<T>];
        IVec sum[kTogether<T>];
#pragma GCC unroll 16
        for (int j = 0; j < kTogether<T>; ++j) {
          x_sum[j] = sum_of_sub(o.q8(t + j), b, s);
          sum[j] = f.table ? start_offset8(x_sum[j]) : ibroadcast(-f.offset * x_sum[j]);
        }
        constexpr int kGroups = 8 / kSubs;
        dot<kLargest, kGroups>(sum, w + kGroups * s, o.q8(t).q + 32 * b + 4 * kGroups * s,
                               o.x_stride);
#pragma GCC unroll 16
        for (int j = 0; j < kTogether<T>; ++j) {
          const float x_scale = o.q8(t + j).scale[b];
          Vec& y = acc[t + j];
          y = fma(to_float(sum[j]), mul(of.scale[s], broadcast(x_scale)), y);
          if constexpr (f.has_min)
            y = fma(of.shift[s], broadcast(x_scale * static_cast<float>(x_sum[j])), y);
        }
      }
  }

  /// Of the input's quants in sub-block s of block b.
  static int32_t sum_of_sub(const Q8Row& x, int64_t b, int s) {
    if constexpr (kSubs == 1) return x.sum[b];
    return s == 0 ? x.first_sum[b] : x.sum[b] - x.first_sum[b];
  }
};
