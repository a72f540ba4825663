// What the CUDA linear kernels do with a chunk of a weight column: decode it, and multiply it with
// the input that it meets. For host and device; `Ops` as in cuda_arithmetic.h.
#pragma once

#include <math.h>
#include <stdint.h>

#include "kernels/cuda_planes.h"
#include "kernels/dtype.h"
#include "kernels/half.h"
#include "kernels/quant_format.h"

namespace tandem::cuda {

struct alignas(16) Bytes16 {
  uint32_t words[4];
};
struct alignas(8) Bytes8 {
  uint32_t words[2];
};

/// What a lane loads of a column at once; zero where a format has no such plane.
struct Chunk {
  Bytes16 low;
  uint32_t high[2];
  uint32_t scales;
  uint32_t factors;
};

/// What eight consecutive elements of a column need of its planes.
struct EightQuants {
  Bytes8 low;
  uint32_t high;
  uint32_t scales;
  uint32_t factors;
};

/// Bytes from a column's begin in each plane.
struct PlaneOffsets {
  int low;
  int high;
  int scales;
  int factors;
};

/// The prepared input that a sub-block of weights is multiplied with.
template <int kVectors>
struct InputChunk {
  Bytes16 vectors[kVectors];  ///< floats or quants, in order of k
  float scale;                ///< of the quants
};

/// Figures of a kLayout: device code cannot read a constant struct of the host's.
template <class Block>
struct ChunkFigures {
  static constexpr int kElements = Block::kLayout.elements;
  static constexpr int kHighBytes = Block::kLayout.high_bytes;
  static constexpr int kScaleBytes = Block::kLayout.scale_bytes;
  static constexpr int kFactorBytes = Block::kLayout.factor_bytes;
  /// Chunks that share factors.
  static constexpr int kFactorChunks = Block::kLayout.factor_elements / kElements;
  /// Bits of a quant in the high plane, and quads of quants that share a word there.
  static constexpr int kHighBits = kHighBytes * 8 / kElements;
  static constexpr int kHighQuads = kHighBits > 0 ? 8 / kHighBits : kElements / 4;

  /// Where the chunk lies that is so many behind a column's first; or how far from another.
  static __device__ constexpr PlaneOffsets offsets(int chunks) {
    return {chunks * 16, chunks * kHighBytes, chunks * kScaleBytes,
            chunks / kFactorChunks * kFactorBytes};
  }
};

// A format has ChunkFigures, and says how many sub-blocks a chunk has (kSubs) and how many 16-byte
// vectors of input meet one of them (kVectors); and:
//   Weights decode(chunk, sub)      a sub-block as it is multiplied, once for all tokens
//   float dot(weights, input, sum)  sum + their product with one token's input; the order of its
//                                   additions is part of the format

/// Elements that are floats, or become floats: fused multiply-adds in order of k.
template <class Element, class Ops>
struct FloatFormat : ChunkFigures<Element> {
  static constexpr bool kQuants = false;
  static constexpr int kElements = ChunkFigures<Element>::kElements;
  static constexpr int kSubs = 1;
  static constexpr int kVectors = kElements / 4;
  struct Weights {
    float values[kElements];
  };
  static __device__ Weights decode(const Chunk& chunk, int /*sub*/) {
    Weights weights;
    for (int i = 0; i < kElements; ++i)
      weights.values[i] = Element::template get<Ops>(chunk.low, i);
    return weights;
  }
  static __device__ float dot(const Weights& weights, const InputChunk<kVectors>& x, float sum) {
    for (int i = 0; i < kElements; ++i)
      sum = fmaf(weights.values[i], bits_float(x.vectors[i / 4].words[i % 4]), sum);
    return sum;
  }
};

struct F32Element {
  static constexpr ColumnLayout kLayout = layout_of(DType::kF32);
  template <class Ops>
  static __device__ float get(const Bytes16& bytes, int i) {
    return bits_float(bytes.words[i]);
  }
};
struct F16Element {
  static constexpr ColumnLayout kLayout = layout_of(DType::kF16);
  template <class Ops>
  static __device__ float get(const Bytes16& bytes, int i) {
    return Ops::from_f16(static_cast<uint16_t>(bytes.words[i / 2] >> i % 2 * 16));
  }
};
struct BF16Element {
  static constexpr ColumnLayout kLayout = layout_of(DType::kBF16);
  template <class Ops>
  static __device__ float get(const Bytes16& bytes, int i) {
    return bits_float(i % 2 == 0 ? bytes.words[i / 2] << 16 : bytes.words[i / 2] & 0xffff0000u);
  }
};

/// What a quant of a sub-block is multiplied with, and what is added for each of them.
struct SubFactors {
  float scale;
  float shift;
};

/// Quants, whose input is quantised too: the integers of a sub-block are summed exactly, then one
/// fused multiply-add with the product of the scales; with minimums, another one with the sum of
/// the input's quants. `Block` makes signed bytes of a quad, and knows their factors.
template <class Block, class Ops>
struct BlockFormat : ChunkFigures<Block> {
  using Figures = ChunkFigures<Block>;
  static constexpr bool kQuants = true;
  static constexpr int kSubs = Figures::kElements / Block::kSub;
  static constexpr int kVectors = Block::kSub / 16;
  static constexpr int kQuads = Block::kSub / 4;
  struct Weights {
    uint32_t quads[kQuads];
    SubFactors factors;
  };
  static __device__ Weights decode(const Chunk& chunk, int sub) {
    Weights weights;
    for (int i = 0; i < kQuads; ++i) {
      const int quad = sub * kQuads + i;
      weights.quads[i] = Block::template quad<Ops>(chunk.low.words[quad % 4],
                                                   chunk.high[quad / Figures::kHighQuads], quad);
    }
    weights.factors = Block::template factors<Ops>(chunk.scales, chunk.factors, sub);
    return weights;
  }
  static __device__ float dot(const Weights& weights, const InputChunk<kVectors>& x, float sum) {
    int32_t products = 0;
    for (int i = 0; i < kQuads; ++i)
      products = Ops::dot4(weights.quads[i], x.vectors[i / 4].words[i % 4], products);
    sum = fmaf(static_cast<float>(products), weights.factors.scale * x.scale, sum);
    if constexpr (Block::kHasMin) {
      int32_t inputs = 0;  // the same for every column: the compiler does it once
      for (int i = 0; i < kQuads; ++i)
        inputs = Ops::dot4(0x01010101u, x.vectors[i / 4].words[i % 4], inputs);
      sum = fmaf(weights.factors.shift, x.scale * static_cast<float>(inputs), sum);
    }
    return sum;
  }

  // For decoding whole columns.

  /// Where a column's group-th eight elements lie: 8 bytes, a word, and what belongs to the chunk.
  static __device__ PlaneOffsets eight_offsets(int group) {
    PlaneOffsets at = Figures::offsets(group * 8 / Figures::kElements);
    at.low += group * 8 % Figures::kElements % 16;
    at.high = group * Figures::kHighBits / 4 * 4;
    return at;
  }
  static __device__ void decode_eight(const EightQuants& eight, int group, float (&values)[8]) {
    const int element = group * 8 % Figures::kElements;
    const SubFactors factors =
        Block::template factors<Ops>(eight.scales, eight.factors, element / Block::kSub);
    for (int i = 0; i < 8; ++i) {
      const uint32_t quad =
          Block::template quad<Ops>(eight.low.words[i / 4], eight.high, element / 4 + i / 4);
      const auto quant = static_cast<float>(static_cast<int8_t>(quad >> i % 4 * 8 & 0xff));
      values[i] =
          Block::kHasMin ? fmaf(factors.scale, quant, factors.shift) : factors.scale * quant;
    }
  }
};

struct Q8_0Block {
  static constexpr ColumnLayout kLayout = layout_of(DType::kQ8_0);
  static constexpr int kSub = 16;  // half a block
  static constexpr bool kHasMin = false;
  template <class Ops>
  static __device__ uint32_t quad(uint32_t low, uint32_t /*high*/, int /*i*/) {
    return low;
  }
  template <class Ops>
  static __device__ SubFactors factors(uint32_t /*scales*/, uint32_t factors, int /*sub*/) {
    return {Ops::from_f16(static_cast<uint16_t>(factors)), 0};
  }
};

/// Nibbles are quants + 8. In the upper half of a byte, with its highest bit flipped, they are 16
/// times the quant with its sign, so that no sum of the inputs is needed to subtract the 8.
struct Q4_0Block {
  static constexpr ColumnLayout kLayout = layout_of(DType::kQ4_0);
  static constexpr int kSub = 32;
  static constexpr bool kHasMin = false;
  template <class Ops>
  static __device__ uint32_t quad(uint32_t low, uint32_t /*high*/, int i) {
    return ((i < 4 ? low << 4 : low) & 0xf0f0f0f0u) ^ 0x80808080u;
  }
  template <class Ops>
  static __device__ SubFactors factors(uint32_t /*scales*/, uint32_t factors, int /*sub*/) {
    return {Ops::from_f16(static_cast<uint16_t>(factors)) * (1.0f / 16), 0};  // exact
  }
};

/// Any format that formats.h lists: `Source` describes it.
template <class Source>
struct PlaneBlock {
  static constexpr ColumnLayout kLayout = layout_of(Source::kFormat);
  static constexpr int kSub = static_cast<int>(Source::kFormat.sub);
  static constexpr bool kHasMin = Source::kFormat.has_min;

  /// Quad i of a chunk, from the words of its planes that hold it.
  template <class Ops>
  static __device__ uint32_t quad(uint32_t low, uint32_t high, int i) {
    if constexpr (kTable) {
      uint32_t first, second;
      Ops::look_up(low, first, second);
      return i < 4 ? first : second;
    } else {
      uint32_t quad = low >> i / 4 * kLowBits & kLowMask;
      if constexpr (kHighBits > 0)
        quad |= (high >> i % (8 / kHighBits) * kHighBits & kHighMask) << kLowBits;
      // With the highest bit set no byte borrows of the next.
      if constexpr (kOffset > 0) quad = ((quad | kTopBits) - kOffsets) ^ kTopBits;
      return quad;
    }
  }
  template <class Ops>
  static __device__ SubFactors factors(uint32_t scales, uint32_t factors, int sub) {
    const float d = Ops::from_f16(static_cast<uint16_t>(factors));
    const float shift = kHasMin ? Ops::from_f16(static_cast<uint16_t>(factors >> 16)) : 0;
    if constexpr (!kScaled) {
      return {d, shift};
    } else {
      const uint32_t byte = scales >> 8 * sub & 0xff;
      const uint32_t min = kNibbles ? byte >> 4 : kHasMin ? scales >> 8 * (kSubs + sub) & 0xff : 0;
      const int scale = kNibbles ? static_cast<int>(byte & 15) : static_cast<int8_t>(byte);
      return {d * static_cast<float>(scale), shift * static_cast<float>(min)};
    }
  }

 private:
  static constexpr int kLowBits = Source::kFormat.low_bits;
  static constexpr int kHighBits = Source::kFormat.high_bits;
  static constexpr int kOffset = Source::kFormat.offset;
  static constexpr bool kTable = Source::kFormat.table;
  static constexpr bool kScaled = Source::kFormat.superblock > 32;
  static constexpr bool kNibbles = Source::kFormat.scale_bits == 4;
  static constexpr int kSubs = kLayout.elements / kSub;
  static constexpr uint32_t kLowMask = in_every_byte(kLowBits);
  static constexpr uint32_t kHighMask = in_every_byte(kHighBits);
  static constexpr uint32_t kOffsets = kOffset * 0x01010101u;
  static constexpr uint32_t kTopBits = 0x80808080u;
};

}  // namespace tandem::cuda
