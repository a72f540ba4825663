// Dot products with panels of quantised blocks in general (see quant_format.h). Included by
// isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

/// The bytes of a group, one per quant. Where they lie is constant: as variables of an unrolled
/// loop GCC shifts by registers.
template <QuadPlace place>
[[gnu::always_inline]] inline Bytes quads_of(const std::byte* planes) {
  constexpr QuadPlace::Part low = place.parts[0], middle = place.parts[1], high = place.parts[2];
  const auto line = [planes](QuadPlace::Part part) { return load_bytes(planes + 64 * part.line); };
  if constexpr (low.bits == 8) return line(low);
  Bytes w = bits_of(line(low), low.shift, (1 << low.bits) - 1);
  if constexpr (place.count > 1)
    w = with_bits(w, line(middle), middle.shift, (1 << middle.bits) - 1, low.bits);
  if constexpr (place.count > 2)
    w = with_bits(w, line(high), high.shift, (1 << high.bits) - 1, low.bits + middle.bits);
  return w;
}

/// The eight groups of 32 elements as bytes, one per quant.
template <class Format, int g = 0>
[[gnu::always_inline]] inline void unpack_quants(const std::byte* quants, Bytes (&w)[8]) {
  w[g] = quads_of<Format::kFormat.quants_place(g)>(quants);
  if constexpr (Format::kFormat.table) w[g] = values_of(w[g], kIq4Values);
  if constexpr (g < 7) unpack_quants<Format, g + 1>(quants, w);
}

/// What a quant of each sub-block of 32 elements is multiplied with, and what is added for it.
template <int kSubs>
struct SubFactors {
  Vec scale[kSubs], shift[kSubs];
};

/// SubFactors of the blocks of a stretch: d and the minimums' factor of a superblock, multiplied
/// with scales and minimums, or those of a block without scales.
template <class Format, int kScaleBits = Format::kFormat.scale_bits>
class Factors {
  static constexpr QuantFormat f = Format::kFormat;
  static constexpr int kSubs = 32 / f.sub;

 public:
  /// What belongs to the superblock of a block, before those of its blocks are asked for.
  [[gnu::always_inline]] void load(const std::byte* stretch, int64_t block) {
    d_ = load_f16(stretch + f.d_at(block));
    shift_ = f.has_min ? load_f16(stretch + f.shift_at(block)) : zero();
  }
  [[gnu::always_inline]] SubFactors<kSubs> of(const std::byte* stretch, int64_t block) const {
    if constexpr (f.superblock == 32) return {{d_}, {shift_}};
    SubFactors<kSubs> factors;
#pragma GCC unroll 2
    for (int i = 0; i < kSubs; ++i) {
      const int64_t sub = block * kSubs + i;
      const std::byte* scales = stretch + f.scales_at(sub);
      factors.scale[i] = mul(d_, to_float(kScaleBits == 4 ? load_u4(scales, 0) : load_i8(scales)));
      if constexpr (f.has_min)
        factors.shift[i] = mul(
            shift_,
            to_float(kScaleBits == 4 ? load_u4(scales, 4) : load_u8(stretch + f.minimums_at(sub))));
    }
    return factors;
  }

 private:
  Vec d_, shift_;
};

/// With scales and minimums in one plane.
template <class Format>
class Factors<Format, 6> {
  static constexpr QuantFormat f = Format::kFormat;
  static_assert(f.superblock == 256 && f.sub == 32);

 public:
  [[gnu::always_inline]] void load(const std::byte* stretch, int64_t /*block*/) {
    const std::byte* plane = stretch + f.scales_at(0);
    scales_[0] = quads_of<f.scales_place(0)>(plane);
    scales_[1] = quads_of<f.scales_place(1)>(plane);
    minimums_[0] = quads_of<f.minimums_place(0)>(plane);
    minimums_[1] = quads_of<f.minimums_place(1)>(plane);
    d_ = byte_factor(load_f16(stretch + f.d_at(0)));
    shift_ = byte_factor(load_f16(stretch + f.shift_at(0)));
  }
  [[gnu::always_inline]] SubFactors<1> of(const std::byte*, int64_t block) const {
    const int i = static_cast<int>(block % 4);
    return {{times_byte(scales_[block / 4], i, d_)}, {times_byte(minimums_[block / 4], i, shift_)}};
  }

 private:
  ByteFactor d_, shift_;
  Bytes scales_[2], minimums_[2];
};

/// f(0), .., f(N - 1), of numbers that are constants there.
template <class Function, int64_t... i>
[[gnu::always_inline]] inline void each_of(const Function& f,
                                           std::integer_sequence<int64_t, i...>) {
  (f(std::integral_constant<int64_t, i>()), ...);
}

template <class Format>
class QuantPanels {
  static constexpr QuantFormat f = Format::kFormat;
  static constexpr int kSubs = 32 / f.sub;
  static constexpr int kLargest = f.table ? kOffset8 : (1 << (f.low_bits + f.high_bits)) - 1;
  static constexpr int kOffset = f.table ? 128 : f.offset;
  static constexpr int64_t kBlocks = f.span() / 32;  // of a stretch

 public:
  // Blocks are independent but for one add, and one stream reads fastest: Zen 4, two cores, Q8_0,
  // share of the DRAM read: 1 panel 99 %, 2 panels 82 %, 4 panels 75 %. But the inputs of a long
  // row are read from the L2 once a panel, through the L1's few line buffers, which the weights
  // need: four panels at once read them once. (Zen 4, one core, share of the read, 1 and 4 panels:
  // Q4_K of k = 2048 97, 71 %, 4096 80, 85 %, 5632 77, 88 %, 11008 76, 92 %; Q4_0 102, 74; 88, 88;
  // 87, 90; 85, 100 %. Q8_0, whose inputs are half as many beside the weights: 100, 88 % of k =
  // 2048, 102, 96 % of 14336.)
  static constexpr int kPanelsOfOne = f.low_bits == 8 ? 1 : 4;
  /// Not beside requests ahead, which stop the prefetchers that four streams need (Zen 4, Q4_K of
  /// k = 5632: 77 % -> 69 %). At 4096 Q6_K lost what Q4_K gained,
  /// when its quants were two planes.
  static bool side_by_side(const LinearTile& tile) {
    return tile.ask_ahead == AskAhead::kNever && tile.k > 4096;
  }
  static constexpr int kTokens = kHasTiles ? 16 : kMaxTokens;
  static constexpr bool kWide = f.low_bits == 8;
  static constexpr int kGroups = 8 / kSubs;  ///< of four quants, in a sub-block

  /// Whether a block of so many tokens is multiplied by tiles. A tile takes as long for one token
  /// as for eight, and for 16 elements as for 32. (Emerald Rapids, one core, 16 tokens, GOP/s by
  /// vectors and by tiles: Q8_0 285, 549; Q4_0 258, 485; Q4_K 248, 400; Q6_K 199, 255. Of 8 tokens:
  /// Q8_0 288, 333; Q6_K 200, 164.)
  static constexpr bool by_tiles(int64_t tokens) { return kHasTiles && tokens >= 8 * kSubs; }

  /// Inlined, all of it, so that sums stay in registers.
  template <int P, int T>
  [[gnu::always_inline]] static void multiply(const Operands& o, Vec (&acc)[P][T]) {
    static_assert(P == 1 || T == 1);
    if constexpr (by_tiles(T))
      multiply_by_tiles(o, acc[0]);
    else
      multiply_by_vectors(o, acc);
  }

 private:
  template <int P, int T>
  [[gnu::always_inline]] static void multiply_by_vectors(const Operands& o, Vec (&acc)[P][T]) {
    const int64_t blocks = o.k / 32;
    const std::byte* stretch = o.panels;
    for (int64_t first = 0; first < blocks; first += kBlocks, stretch += f.stretch_bytes()) {
      Factors<Format> factors[P];
      const auto add = [&](auto i) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) {
          const std::byte* here = stretch + p * o.panel_stride;
          const std::byte* quants = fetched_quants<T>(o, here, i);
          if (begins_factors(i)) factors[p].load(here, i);
          const SubFactors<kSubs> of = factors[p].of(here, i);
          if constexpr (T == 1 && kOfNibbles) {
            const IVec sum = sum_of_nibbles(o.q8(0), first + i, quants);
            add_scaled(o.q8(0), first + i, of, sum, sum, acc[p][0]);
          } else {
            Bytes w[8];
            unpack_quants<Format>(quants, w);
            add_block(o, first + i, w, of, acc[p]);
          }
        }
      };
      // One token's time is what a core does meanwhile: the fewer instructions a line, the further
      // it sees ahead. (Zen 4, Q4_K, two cores with an L3 each, share of the read: a loop 90 %, its
      // scales in memory; unrolled 92 to 96 %, they stay in registers.) Rows are whole superblocks.
      if constexpr (P * T == 1 && f.superblock == 256) {
        each_of(add, std::make_integer_sequence<int64_t, kBlocks>());
      } else {
        const int64_t end = first + kBlocks < blocks ? kBlocks : blocks - first;
        for (int64_t i = 0; i < end; ++i) add(i);
      }
    }
  }

  /// Whether the upper nibbles of bytes can be multiplied as they are, 16 times as large.
  static constexpr bool kOfNibbles =
      kNibblesInPlace && kSubs == 1 && f.low_bits == 4 && f.high_bits == 0 && !f.table;
  /// Of block b of one token: its sum is shifted once, not four lines of quants.
  [[gnu::always_inline]] static IVec sum_of_nibbles(const Q8Row& x, int64_t b,
                                                    const std::byte* quants) {
    Bytes lower[4], upper[4];
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      const Bytes line = load_bytes(quants + 64 * g);
      lower[g] = bits_of(line, 0, 0x0f);
      upper[g] = bits_of(line, 0, 0xf0);
    }
    const int8_t* q = x.q + 32 * b;
    const IVec sum =
        sixteenth(dot_unsigned<16 * kLargest, 4>(start<1, 16>(x, b, 0), upper, q + 16));
    return dot_unsigned<kLargest, 4>(sum, lower, q);
  }

  /// Inlined, so that acc stays in registers.
  template <int T>
  [[gnu::always_inline]] static void add_block(const Operands& o, int64_t b, const Bytes (&w)[8],
                                               const SubFactors<kSubs>& of, Vec (&acc)[T]) {
#pragma GCC unroll 16
    for (int t = 0; t < T; t += kTogether<T, kSubs>) {
      IVec sums[kSubs][kTogether<T, kSubs>];
#pragma GCC unroll 2
      for (int s = 0; s < kSubs; ++s) {
#pragma GCC unroll 16
        for (int j = 0; j < kTogether<T, kSubs>; ++j) sums[s][j] = start<T>(o.q8(t + j), b, s);
        dot<kLargest, kGroups>(sums[s], w + kGroups * s, o.q8(t).q + 32 * b + 4 * kGroups * s,
                               o.x_stride);
      }
#pragma GCC unroll 16
      for (int j = 0; j < kTogether<T, kSubs>; ++j)
        add_scaled(o.q8(t + j), b, of, sums[0][j], sums[kSubs - 1][j], acc[t + j]);
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
    Factors<Format> factors;
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
        if (begins_factors(b % kBlocks)) factors.load(stretch, b % kBlocks);
        const SubFactors<kSubs> of = factors.of(stretch, b % kBlocks);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          IVec sums[kSubs];
#pragma GCC unroll 2
          for (int s = 0; s < kSubs; ++s)
            __builtin_memcpy(&sums[s], products[kSubs * (b - first) + s][t], sizeof sums[s]);
          add_scaled(o.q8(t), b, of, sums[0], sums[kSubs - 1], acc[t]);
        }
      }
    }
  }

  /// Whether block i of a stretch has factors that the block before had not.
  static constexpr bool begins_factors(int64_t i) { return f.superblock == 32 || i == 0; }
  static const std::byte* stretch_of(const Operands& o, int64_t block) {
    return o.panels + block / kBlocks * f.stretch_bytes();
  }
  /// Quants of block i of a stretch. With them an even share of a stretch is asked for.
  template <int Tokens = 1>
  [[gnu::always_inline]] static const std::byte* fetched_quants(const Operands& o,
                                                                const std::byte* stretch,
                                                                int64_t i) {
    constexpr int64_t kShare = f.stretch_bytes() / kBlocks;
    const std::byte* quants = stretch + f.quants_at(i);
    fetch_ahead<kShare, Tokens>(o.ask_ahead, stretch + i * kShare);
    return quants;
  }
  /// The eight groups of a block as signed bytes, with nothing left to be taken from their
  /// products: eight subtractions a block instead of one a token.
  static void unpack_signed(const Operands& o, int64_t block, std::byte (&out)[8][64]) {
    Bytes w[8];
    unpack_quants<Format>(fetched_quants(o, stretch_of(o, block), block % kBlocks), w);
#pragma GCC unroll 16
    for (Bytes& group : w)
      if (kOffset != 0) group = signed_bytes(group, kOffset);
    __builtin_memcpy(out, w, sizeof out);
  }

  /// Of the input's quants in sub-block s of block b.
  [[gnu::always_inline]] static int32_t sum_of_sub(const Q8Row& x, int64_t b, int s) {
    const HalfSums sums = x.sums[b];
    if constexpr (kSubs == 1) return sums.first + sums.last;
    return s == 0 ? sums.first : sums.last;
  }
  /// What the sums of products of T tokens with sub-block s begin at, `times` as large as they are:
  /// the offset is taken.
  template <int T, int times = 1>
  [[gnu::always_inline]] static IVec start(const Q8Row& x, int64_t b, int s) {
    constexpr int kTaken = times * (kLargest == kOffset8 ? kOffset8Taken : kOffset);
    if constexpr (kTaken == 0) return ibroadcast(0);
    // Of many tokens products are what there is no time for.
    if constexpr (T > 1) return ibroadcast(-kTaken * sum_of_sub(x, b, s));
    if constexpr (kSubs == 1) return times_sums<-kTaken, -kTaken>(x.sums[b]);
    return s == 0 ? times_sums<-kTaken, 0>(x.sums[b]) : times_sums<0, -kTaken>(x.sums[b]);
  }
  /// acc += what block b adds, whose first and last sub-block (there may be one) have these sums of
  /// products.
  [[gnu::always_inline]] static void add_scaled(const Q8Row& x, int64_t b,
                                                const SubFactors<kSubs>& of, IVec first, IVec last,
                                                Vec& acc) {
    const Vec x_scale = broadcast(x.scale[b]);
    if constexpr (kSubs == 1) {
      acc = fma(to_float(first), mul(of.scale[0], x_scale), acc);
      if constexpr (f.has_min) acc = fma(of.shift[0], broadcast(x.scaled_sum[b]), acc);
    } else {
      Vec sum = fma(to_float(last), of.scale[1], mul(to_float(first), of.scale[0]));
      if constexpr (f.has_min)
        for (int s = 0; s < kSubs; ++s)
          sum = fma(of.shift[s], broadcast(static_cast<float>(sum_of_sub(x, b, s))), sum);
      acc = fma(sum, x_scale, acc);
    }
  }
};
