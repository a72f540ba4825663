// Dot products of packed weight panels with prepared inputs. A lane is an output column, so there
// is no horizontal sum, and each (column, token) adds over k in one order whatever the number of
// panels and tokens at once. Included by isa_body.cpp only, inside the namespace of an instruction
// set.
#pragma once

/// Asks for the lines of [weights, weights + Bytes) of later on. Between the blocks' arithmetic the
/// prefetchers of the hardware alone leave most cores below their bandwidth; ask_ahead_here() knows
/// which. Every line must be asked for: the hardware does not see these requests and begins no
/// stream of its own. Inlined: a call would have all sums go through memory.
///
/// Once: into the L1. (Zen 5, Q4_0, share of the read, one core: none 77..86 %, 1 KiB ahead 65..80
/// %, 4 KiB 93 %, 8 KiB 98 %, 16 KiB 92 %; two cores: 75 %, and 98 % with 8 KiB. Into the L2:
/// 91..96 %.) Of several tokens into the L2, but for tiles: it can wait for more lines at once.
/// (Zen 4, two cores, ms of a step of 4, 8, 16 tokens, by the L1: Q8_0 31, 44, 61, BF16 47, 61, 97;
/// by the L2: 26, 33, 61 and 41, 44, 89.)
///
/// Twice: the L2 alone waits for enough lines, but is itself too far to be read without asking.
/// (Emerald Rapids, Q4_K, one core, share of the read: 8 KiB ahead into the L1 61..89 %, 8 to 32
/// KiB into the L2 94..97 %; with 512 B to 1.5 KiB ahead into the L1 beside 8 to 32 KiB into the L2
/// 95..101 %, with 2 KiB 73 % of Q6_K.)
template <int Bytes, int Tokens = 1>
[[gnu::always_inline]] inline void fetch_ahead(AskAhead how, const std::byte* weights) {
  constexpr int64_t kAhead = 8192, kFar = 12288, kNear = 1024;
  constexpr int kL1 = 3, kL2 = 2;
  if (how == AskAhead::kOnce) {
    for (int i = 0; i < Bytes; i += 64)
      __builtin_prefetch(weights + kAhead + i, 0, Tokens == 1 ? kL1 : kL2);
  } else if (how == AskAhead::kTwice) {
    for (int i = 0; i < Bytes; i += 64) {
      __builtin_prefetch(weights + kFar + i, 0, kL2);
      __builtin_prefetch(weights + kNear + i, 0, kL1);
    }
  }
}

/// A block of P panels x T tokens: see linear_block().
struct Operands {
  const std::byte* panels;
  int64_t panel_stride;
  const std::byte* x;
  int64_t x_stride;
  int64_t k;
  AskAhead ask_ahead;  ///< for the weights

  /// Of token t. Inlined as dot() is: GCC then inlines the rest as it did without them.
  [[gnu::always_inline]] Q8Row q8(int t) const {
    return q8_row(const_cast<std::byte*>(x + t * x_stride), k);
  }
};

/// Tokens [from, to) of a tile.
inline LinearTile tokens_of(LinearTile tile, int64_t from, int64_t to) {
  tile.x.base = static_cast<const std::byte*>(tile.x.base) + from * tile.x.row_bytes;
  tile.y += from * tile.y_stride;
  tile.tokens = to - from;
  return tile;
}

#include TANDEM_TILES  // and whether it has tile registers

/// acc + the products of N groups of quants, none above kLargest, with the input's: what the vector
/// type's dot_groups() does for as many at once as groups_at_once() says.
template <int kLargest, int N>
IVec dot_unsigned(IVec acc, const Bytes* w, const int8_t* x) {
  constexpr int kMost = groups_at_once(kLargest), kAtOnce = kMost < N ? kMost : N;
  static_assert(kMost > 0);
  acc = dot_groups<kAtOnce>(acc, w, x);
  if constexpr (kAtOnce < N)
    acc = dot_unsigned<kLargest, N - kAtOnce>(acc, w + kAtOnce, x + 4 * kAtOnce);
  return acc;
}
/// The same for bytes with an offset of 128, of which sums begin at -kOffset8Taken * sum(x).
template <int N>
IVec dot_offset8(IVec acc, const Bytes* w, const int8_t* x) {
#pragma GCC unroll 16
  for (int g = 0; g < N; ++g) acc = dot_offset8(acc, w[g], x + 4 * g);
  return acc;
}
/// What dot() takes as kLargest for bytes with an offset of 128.
inline constexpr int kOffset8 = 255;
/// How many of T tokens go through dot() together with each sub-block of a block of `subs`: one, or
/// tokens_together() where the vector type has dot_tokens(), which multiplies bytes of either kind.
template <int T, int subs>
inline constexpr int kTogether = T < tokens_together(subs) ? T : tokens_together(subs);
/// acc[t] + the products of N groups with the input of token t, which lies at x + t * x_stride.
template <int kLargest, int N, int T>
[[gnu::always_inline]] inline void dot(IVec (&acc)[T], const Bytes* w, const int8_t* x,
                                       int64_t x_stride) {
  if constexpr (T > 1)
    dot_tokens<N>(acc, w, x, x_stride);
  else if constexpr (kLargest == kOffset8)
    acc[0] = dot_offset8<N>(acc[0], w, x);
  else
    acc[0] = dot_unsigned<kLargest, N>(acc[0], w, x);
}

/// How weights of some tokens are asked for where those of one are best not: there is more
/// arithmetic a line, the less so the wider the weights. (Zen 4, one core, share of the read,
/// asking once and not: Q8_0 of 2 tokens 72, 85 %, of 4 78, 58 %; Q4_0 of 2 95, 79 %. Two cores,
/// time of a step of 4 tokens that asks once over that of one that asks twice: Q8_0 1.03 with one
/// L3, 1.12 with an L3 each, BF16 1.03; 0.97 to 0.99 of Q4_0, Q4_K and Q6_K. Of 8 tokens of Q8_0
/// 0.93.)
constexpr AskAhead unasked(int64_t tokens, bool wide) {
  if (tokens == 1) return AskAhead::kNever;
  if (!wide || tokens > 4) return AskAhead::kOnce;
  return tokens > 2 ? AskAhead::kTwice : AskAhead::kNever;
}

/// What rows of floats have in common.
struct FloatPanels {
  static constexpr int kTokens = kMaxTokens;
  static constexpr int kPanelsOfOne = 2;  // one token: this many chains of adds in flight
  static constexpr bool kWide = true;     // weights of a byte and more
  static bool side_by_side(const LinearTile&) { return true; }
};

struct F32Panels : FloatPanels {
  template <int P, int T>
  static void multiply(const Operands& o, Vec (&acc)[P][T]) {
    for (int64_t k = 0; k < o.k; ++k)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const Vec w = load(reinterpret_cast<const float*>(o.panels + p * o.panel_stride) + 16 * k);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t)
          acc[p][t] =
              fma(w, broadcast(reinterpret_cast<const float*>(o.x + t * o.x_stride)[k]), acc[p][t]);
      }
  }
};

struct F16Panels : FloatPanels {
  template <int P, int T>
  static void multiply(const Operands& o, Vec (&acc)[P][T]) {
    for (int64_t k = 0; k < o.k; ++k)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const Vec w = load_f16(o.panels + p * o.panel_stride + 32 * k);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t)
          acc[p][t] =
              fma(w, broadcast(reinterpret_cast<const float*>(o.x + t * o.x_stride)[k]), acc[p][t]);
      }
  }
};

struct BF16Panels : FloatPanels {
  template <int P, int T>
  static void multiply(const Operands& o, Vec (&acc)[P][T]) {
    for (int64_t pair = 0; pair < (o.k + 1) / 2; ++pair)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const std::byte* line = o.panels + p * o.panel_stride + 64 * pair;
        // One token gains nothing by asking once (Zen 5), but by asking twice (Emerald Rapids, one
        // core, share of the read by vectors: 88 -> 108 %).
        if (T > 1 || o.ask_ahead == AskAhead::kTwice) fetch_ahead<64, T>(o.ask_ahead, line);
        const Bytes w = load_bytes(line);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
          const std::byte* x = o.x + t * o.x_stride;
          if constexpr (kHasBF16Dot) {
            acc[p][t] = dot_bf16(acc[p][t], w, reinterpret_cast<const uint16_t*>(x) + 2 * pair);
          } else {  // rows are padded to 64 bytes, and the pad of an odd k is multiplied by a zero
                    // weight
            const float* two = reinterpret_cast<const float*>(x) + 2 * pair;
            acc[p][t] = fma(even_bf16(w), broadcast(two[0]), acc[p][t]);
            acc[p][t] = fma(odd_bf16(w), broadcast(two[1]), acc[p][t]);
          }
        }
      }
  }
};

#include "kernels/body_quants.h"

template <class Panels, int P, int T>
void linear_block(const LinearTile& tile, int64_t panel, int64_t token) {
  const int64_t stride = panel_bytes(tile.dtype, tile.k);
  const Operands operands{
      .panels = tile.panels + panel * stride,
      .panel_stride = stride,
      .x = static_cast<const std::byte*>(tile.x.base) + token * tile.x.row_bytes,
      .x_stride = tile.x.row_bytes,
      .k = tile.k,
      .ask_ahead = token > 0                            ? AskAhead::kNever
                   : tile.ask_ahead == AskAhead::kNever ? unasked(tile.tokens, Panels::kWide)
                                                        : tile.ask_ahead};
  Vec acc[P][T];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[p][t] = zero();
  Panels::template multiply<P, T>(operands, acc);
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t)
      store(tile.y + (token + t) * tile.y_stride + 16 * (panel + p), acc[p][t]);
}

/// All tokens of panels [panel, panel + P), in blocks of Max tokens, then Max / 2, ... 1.
template <class Panels, int P, int Max>
void linear_tokens(const LinearTile& tile, int64_t panel, int64_t token) {
  for (; token + Max <= tile.tokens; token += Max) linear_block<Panels, P, Max>(tile, panel, token);
  if constexpr (Max > 1) linear_tokens<Panels, P, Max / 2>(tile, panel, token);
}

template <class Panels>
void linear_panels(const LinearTile& tile) {
  int64_t panel = 0;
  constexpr int P = Panels::kPanelsOfOne;
  if (tile.tokens == 1 && Panels::side_by_side(tile))
    for (; panel + P <= tile.num_panels; panel += P) linear_block<Panels, P, 1>(tile, panel, 0);
  for (; panel < tile.num_panels; ++panel)
    linear_tokens<Panels, 1, Panels::kTokens>(tile, panel, 0);
}

/// With tiles of as many tokens as the blocks that are multiplied by them have, 16 or 8.
template <class Format>
void linear_quants(const LinearTile& tile) {
  using Panels = QuantPanels<Format>;
  if (!Panels::by_tiles(tile.tokens)) return linear_panels<Panels>(tile);
  const int64_t in_sixteens = tile.tokens / 16 * 16;
  if (in_sixteens > 0) {
    [[maybe_unused]] const QuantTiles tiles(16, Panels::kGroups);
    linear_panels<Panels>(tokens_of(tile, 0, in_sixteens));
  }
  const LinearTile rest = tokens_of(tile, in_sixteens, tile.tokens);
  if (!Panels::by_tiles(rest.tokens)) return linear_panels<Panels>(rest);
  [[maybe_unused]] const QuantTiles tiles(8, Panels::kGroups);
  linear_panels<Panels>(rest);
}

inline void linear(const LinearTile& tile) {
  switch (tile.dtype) {
    case DType::kF32:
      return linear_panels<F32Panels>(tile);
    case DType::kF16:
      return linear_panels<F16Panels>(tile);
    case DType::kBF16:
      return kHasTiles ? linear_bf16_tiles(tile) : linear_panels<BF16Panels>(tile);
    case DType::kQ8_0:
      return linear_quants<Q8_0>(tile);
    case DType::kQ4_0:
      return linear_quants<Q4_0>(tile);
    case DType::kQ4_1:
      return linear_quants<Q4_1>(tile);
    case DType::kQ5_0:
      return linear_quants<Q5_0>(tile);
    case DType::kQ5_1:
      return linear_quants<Q5_1>(tile);
    case DType::kQ2_K:
      return linear_quants<Q2_K>(tile);
    case DType::kQ3_K:
      return linear_quants<Q3_K>(tile);
    case DType::kQ4_K:
      return linear_quants<Q4_K>(tile);
    case DType::kQ5_K:
      return linear_quants<Q5_K>(tile);
    case DType::kQ6_K:
      return linear_quants<Q6_K>(tile);
    case DType::kIQ4_NL:
      return linear_quants<IQ4_NL>(tile);
    case DType::kIQ4_XS:
      return linear_quants<IQ4_XS>(tile);
  }
}
