// What formats of quantised blocks have in common: how a GGUF block is described once it is
// decoded, and how panels of 16 columns hold it. One format is one file, format_*.h; formats.h
// lists them. (Q8_0 and Q4_0 are packed by pack.cpp, faster and into the same panels.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tandem {

/// Where the quads (four bytes of a column) of group g lie in the lines of planes: in parts, the
/// lowest bits first.
struct QuadPlace {
  struct Part {
    int line, shift, bits;
  };
  Part parts[3] = {};
  int count = 1;

  constexpr QuadPlace(int low_bits, int high_bits, int g) {
    if (low_bits + high_bits == 6) {
      // Three of four groups are the lower bits of a line each, the fourth is in their upper two:
      // as many bytes as planes of four and of two bits, and 18 operations to take eight apart, not
      // 26. (Zen 4, one token of Q6_K from the L2 33 -> 27 us, one core, in turn 88..91 -> 99..104
      // % of a read.)
      const int first = g / 4 * 3;
      if (g % 4 < 3) {
        parts[0] = {first + g % 4, 0, 6};
      } else {
        for (count = 0; count < 3; ++count) parts[count] = {first + count, 6, 2};
      }
      return;
    }
    parts[0] = low_bits == 8   ? Part{g, 0, 8}
               : low_bits == 4 ? Part{g % 4, g / 4 * 4, 4}
                               : Part{g / 4, g % 4 * 2, 2};
    if (high_bits == 0) return;
    parts[1] = high_bits == 1 ? Part{low_bits, g, 1} : Part{low_bits + g / 4, g % 4 * 2, 2};
    count = 2;
  }
};

/// A quant q of a column means d * scale * (q - offset), or d * scale * kIq4Values[q] with `table`;
/// with minimums + shift * min. d and shift belong to a superblock, scale and min to a sub-block.
///
/// A panel is a row of stretches, each of them `span` elements of 16 columns: d (f16), shift (f16),
/// scales and minimums, then for every 32 elements the quants by planes of bits. In a plane, byte
/// 4 c + j of a line belongs to column c and element 4 g + j of group g: the lower plane has bits
/// of one group (8 bits: line g), of two groups (4 bits: g and g + 4 in line g % 4) or of four (2
/// bits: line g / 4, bits 2 (g % 4)) in a byte; the upper plane of all eight (1 bit: bit g of the
/// only line), or of four. Quants of six bits are one plane: see QuadPlace.
///
/// Scales are a row of int8, minimums one of uint8, or both are nibbles of one row of bytes. Of six
/// bits each, both are one plane of four groups: the scales of eight sub-blocks, their minimums.
struct QuantFormat {
  int64_t superblock;  ///< 32: no scales but d; or 256
  int64_t sub;         ///< 32 or 16
  int low_bits;        ///< of the lower plane, 8, 4 or 2
  int high_bits = 0;   ///< of the upper plane, 0, 1 or 2
  int offset = 0;      ///< none with `table`
  bool has_min = false;
  int scale_bits = 8;  ///< of a scale, and of a minimum; 4 and 6 with has_min only
  bool table = false;

  // Inlined always: of a weak symbol that kernel sets shared the linker could keep the one with
  // instructions that this CPU has not.
  [[gnu::always_inline]] constexpr int64_t span() const {
    return superblock == 32 ? 64 : superblock;
  }
  [[gnu::always_inline]] constexpr int64_t head_bytes() const {
    return superblock == 32 && has_min ? 128 : 64;
  }
  [[gnu::always_inline]] constexpr int64_t subs() const {
    return superblock == 32 ? 0 : superblock / sub;
  }
  [[gnu::always_inline]] constexpr int64_t sub_bytes() const {
    return subs() * (has_min ? 4 : 2) * scale_bits;
  }
  /// Of 32 elements.
  [[gnu::always_inline]] constexpr int64_t quant_bytes() const {
    return 64 * (low_bits + high_bits);
  }
  [[gnu::always_inline]] constexpr int64_t stretch_bytes() const {
    return head_bytes() + sub_bytes() + span() / 32 * quant_bytes();
  }

  // Where it lies in a stretch, for the 32 elements `block` or the sub-block `i` of it.
  [[gnu::always_inline]] constexpr int64_t d_at(int64_t block) const {
    return superblock == 32 ? 32 * block : 0;
  }
  [[gnu::always_inline]] constexpr int64_t shift_at(int64_t block) const {
    return superblock == 32 ? 64 + 32 * block : 32;
  }
  [[gnu::always_inline]] constexpr int64_t scales_at(int64_t i) const {
    return head_bytes() + 16 * i;
  }
  [[gnu::always_inline]] constexpr int64_t minimums_at(int64_t i) const {
    return head_bytes() + 16 * (subs() + i);
  }
  /// Of the scales (or minimums) of sub-blocks 4 g, .., 4 g + 3 in the plane at scales_at(0), where
  /// they are of six bits.
  static constexpr QuadPlace scales_place(int g) { return {4, 2, g}; }
  static constexpr QuadPlace minimums_place(int g) { return {4, 2, 2 + g}; }
  [[gnu::always_inline]] constexpr int64_t quants_at(int64_t block) const {
    return head_bytes() + sub_bytes() + block * quant_bytes();
  }
  /// Of the quants of elements 4 g, .., 4 g + 3 in a block's lines.
  constexpr QuadPlace quants_place(int g) const { return {low_bits, high_bits, g}; }
};

/// 32 elements of a row, decoded. d and shift are f16.
struct Quants {
  uint8_t q[32];
  uint16_t d = 0;
  uint16_t shift = 0;
  int8_t scale[2] = {1, 1};  ///< of the first and the last 16
  uint8_t min[2] = {1, 1};
};

/// Values of a 4-bit quant that are denser near 0. (ggml, kvalues_iq4nl)
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

/// The lowest bits of four bytes each.
static constexpr uint32_t in_every_byte(int bits) { return 0x01010101u * ((1u << bits) - 1); }

// For format_*.h. kDAt and kShiftAt there: bytes of a block where d and the minimums' factor lie.

static inline uint16_t half_at(const std::byte* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return half;
}
static inline int byte_at(const std::byte* p) { return static_cast<int>(*p); }

/// Elements i and i + 16 share byte i.
static inline void decode_nibbles(const std::byte* bytes, Quants& out) {
  for (int i = 0; i < 16; ++i) {
    out.q[i] = static_cast<uint8_t>(byte_at(bytes + i) & 15);
    out.q[i + 16] = static_cast<uint8_t>(byte_at(bytes + i) >> 4);
  }
}

/// A fifth bit for each of 32 quants: bit i of four bytes, lowest first.
static inline void decode_fifth_bits(const std::byte* bytes, Quants& out) {
  for (int i = 0; i < 32; ++i)
    out.q[i] = static_cast<uint8_t>(out.q[i] | ((byte_at(bytes + i / 8) >> i % 8) & 1) << 4);
}

/// 6-bit scale and minimum of sub-block i of 8, packed in 12 bytes as Q4_K and Q5_K have them.
static inline void decode_k_scales(const std::byte* packed, int64_t i, Quants& out) {
  int scale, min;
  if (i < 4) {
    scale = byte_at(packed + i) & 63;
    min = byte_at(packed + i + 4) & 63;
  } else {
    scale = (byte_at(packed + i + 4) & 15) | byte_at(packed + i - 4) >> 6 << 4;
    min = byte_at(packed + i + 4) >> 4 | byte_at(packed + i) >> 6 << 4;
  }
  out.scale[0] = out.scale[1] = static_cast<int8_t>(scale);
  out.min[0] = out.min[1] = static_cast<uint8_t>(min);
}

}  // namespace tandem
