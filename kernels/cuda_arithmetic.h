// What the CUDA linear kernels compute beside their loads and stores: 16 bytes of a weight column
// times the input they meet, preparation of inputs, and what follows a product. For host and
// device; `Ops` are the conversions and dot products that a GPU has instructions for.
#pragma once

#include <math.h>
#include <stdint.h>

#include "kernels/half.h"

namespace tandem::cuda {

/// What a lane loads at once.
struct alignas(16) Bytes16 {
  uint32_t words[4];
};
struct alignas(8) Bytes8 {
  uint32_t words[2];
};

/// The prepared input that 16 bytes of weights are multiplied with.
template <int kVectors>
struct InputChunk {
  Bytes16 vectors[kVectors];  ///< floats or quants, in order of k
  float scale;                ///< of the quants
};

/// In plain code what kernels/cuda_formats.cuh does with instructions. Exact, so the bits are the
/// same.
struct PortableOps {
  static __device__ float from_f16(uint16_t bits) { return f16_to_f32(bits); }
  /// sum + the dot product of four signed bytes.
  static __device__ int32_t dot4(uint32_t a, uint32_t b, int32_t sum) {
    for (int i = 0; i < 32; i += 8)
      sum += static_cast<int8_t>(a >> i & 0xff) * static_cast<int8_t>(b >> i & 0xff);
    return sum;
  }
  /// a + b, rounded; never contracted with a product.
  static __device__ float add(float a, float b) { return a + b; }
};

// A format says how many elements 16 bytes of a column hold (kElements), how many 16-byte vectors
// of input they meet (kVectors), how many such chunks share a scale (kScaleChunks), and:
//   Weights decode(bytes, scale)    the weights as they are multiplied, once for all tokens
//   float dot(weights, input, sum)  sum + their product with one token's input; the order of its
//                                   additions is part of the format

/// Elements that are floats, or become floats: fused multiply-adds in order of k.
template <class Element, class Ops>
struct FloatFormat {
  static constexpr bool kQuants = false;
  static constexpr int kElements = Element::kElements;
  static constexpr int kVectors = kElements / 4;
  static constexpr int kScaleChunks = 1;  // there are none
  struct Weights {
    float values[kElements];
  };
  static __device__ Weights decode(const Bytes16& bytes, uint16_t /*scale*/) {
    Weights weights;
    for (int i = 0; i < kElements; ++i) weights.values[i] = Element::template get<Ops>(bytes, i);
    return weights;
  }
  static __device__ float dot(const Weights& weights, const InputChunk<kVectors>& x, float sum) {
    for (int i = 0; i < kElements; ++i)
      sum = fmaf(weights.values[i], bits_float(x.vectors[i / 4].words[i % 4]), sum);
    return sum;
  }
};

struct F32Element {
  static constexpr int kElements = 4;
  template <class Ops>
  static __device__ float get(const Bytes16& bytes, int i) {
    return bits_float(bytes.words[i]);
  }
};
struct F16Element {
  static constexpr int kElements = 8;
  template <class Ops>
  static __device__ float get(const Bytes16& bytes, int i) {
    return Ops::from_f16(static_cast<uint16_t>(bytes.words[i / 2] >> i % 2 * 16));
  }
};
struct BF16Element {
  static constexpr int kElements = 8;
  template <class Ops>
  static __device__ float get(const Bytes16& bytes, int i) {
    return bits_float(i % 2 == 0 ? bytes.words[i / 2] << 16 : bytes.words[i / 2] & 0xffff0000u);
  }
};

/// Blocks of 32 small integers with an f16 scale, whose input is quantised too: the integers are
/// summed exactly, then one fused multiply-add with the product of the scales. `Block` makes signed
/// bytes of them, kFactor times as large, in order of k.
template <class Block, class Ops>
struct BlockFormat {
  static constexpr bool kQuants = true;
  static constexpr int kElements = Block::kElements;
  static constexpr int kVectors = kElements / 16;
  static constexpr int kScaleChunks = 32 / kElements;
  struct Weights {
    uint32_t quads[kElements / 4];
    float scale;
  };
  static __device__ Weights decode(const Bytes16& bytes, uint16_t scale) {
    Weights weights;
    for (int i = 0; i < kElements / 4; ++i)
      weights.quads[i] = Block::quad(bytes.words[i % 4], i / 4);
    weights.scale = scale_of(scale);
    return weights;
  }
  static __device__ float dot(const Weights& weights, const InputChunk<kVectors>& x, float sum) {
    int32_t quants = 0;
    for (int i = 0; i < kElements / 4; ++i)
      quants = Ops::dot4(weights.quads[i], x.vectors[i / 4].words[i % 4], quants);
    return fmaf(static_cast<float>(quants), weights.scale * x.scale, sum);
  }

  // For decoding whole columns: the group-th eight elements of a column need the 8 bytes that lie
  // eight_offset() bytes from its begin.
  static __device__ int64_t eight_offset(int64_t group) {
    return group * 8 / kElements * 16 + group * 8 % kElements % 16;
  }
  static __device__ void decode_eight(const Bytes8& bytes, uint16_t scale, int64_t group,
                                      float (&values)[8]) {
    const int part = static_cast<int>(group * 8 % kElements / 16);
    for (int i = 0; i < 8; ++i) {
      const uint32_t quad = Block::quad(bytes.words[i / 4], part);
      values[i] =
          scale_of(scale) * static_cast<float>(static_cast<int8_t>(quad >> i % 4 * 8 & 0xff));
    }
  }

 private:
  static __device__ float scale_of(uint16_t bits) {
    return Ops::from_f16(bits) * (1.0f / Block::kFactor);  // a power of two: exact
  }
};

struct Q8_0Block {
  static constexpr int kElements = 16;
  static constexpr int kFactor = 1;
  static __device__ uint32_t quad(uint32_t word, int /*part*/) { return word; }
};
/// Nibbles are quants + 8. In the upper half of a byte, with its highest bit flipped, they are 16
/// times the quant with its sign, so that no sum of the inputs is needed to subtract the 8.
struct Q4_0Block {
  static constexpr int kElements = 32;
  static constexpr int kFactor = 16;
  static __device__ uint32_t quad(uint32_t word, int part) {
    return ((part == 0 ? word << 4 : word) & 0xf0f0f0f0u) ^ 0x80808080u;
  }
};

// --- inputs
// ----------------------------------------------------------------------------------------

/// What a row is multiplied with before its norm's weight.
__host__ __device__ static inline float rms_scale(float squares, int64_t n, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
}

/// Quants of a block of 32 whose largest magnitude is `top` are round(x * inverse), ties to even;
/// they count for top / 127.
__host__ __device__ static inline float quant_inverse(float top) {
  return top > 1e-30f ? 127.0f / top : 0.0f;  // of less it would be infinite
}
__host__ __device__ static inline float quant_scale(float top) { return top / 127.0f; }
__host__ __device__ static inline int32_t quantize(float x, float inverse) {
  return static_cast<int32_t>(rintf(x * inverse));
}

// --- results
// ---------------------------------------------------------------------------------------

/// silu(gate) * up, silu(g) = g / (1 + e^-g). (Shazeer 2020, eq. 6)
template <class Ops>
__device__ float swiglu(float gate, float up) {
  return gate / Ops::add(1.0f, expf(-gate)) * up;
}

/// A value that may be the largest, and where it stands.
struct Candidate {
  float value;
  int32_t index;
};
/// Smaller than any value, and behind all.
inline constexpr Candidate kNoCandidate{-INFINITY, INT32_MAX};
/// Of equal values the earlier one; what is no number is never larger.
__host__ __device__ static inline Candidate larger(Candidate a, Candidate b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

/// RoPE of one pair. (Su et al. 2021, eq. 15)
struct Pair {
  float first;
  float second;
};
__host__ __device__ static inline Pair rotate(Pair x, float cosine, float sine) {
  return {fmaf(x.first, cosine, -(x.second * sine)), fmaf(x.first, sine, x.second * cosine)};
}

/// The elements of a head that RoPE's i-th pair rotates.
struct PairIndex {
  int first;
  int second;
};
__host__ __device__ static inline PairIndex rope_pair(int i, int rope_dim, bool neox) {
  if (neox) return {i, i + rope_dim / 2};
  return {2 * i, 2 * i + 1};
}

}  // namespace tandem::cuda
