// The formats of a KV cache as a CUDA unit's attention reads them, eight elements at a time: of a
// key those of one element and eight positions, of a value eight of one position (see KvLayout).
// What is read is exact in each format. Included by cuda_attention*.cu only.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_ptx.cuh"
#include "kernels/kv_format.h"

namespace tandem::cuda {

/// Memory that is read once.
struct StreamingLoad {
  template <class Word>
  __device__ Word operator()(const Word* from) const {
    return load_streaming(from);
  }
};
/// Not moved behind a barrier, as the compiler does with load_streaming().
struct LoadNow {
  template <class Word>
  __device__ Word operator()(const Word* from) const {
    return *from;
  }
};

/// A format without scales. `Element` has what is loaded of eight, and turns it into floats.
template <class Element>
struct PlainKv : Element {
  using Element::kBytes;
  using typename Element::Eight;

  __device__ static int64_t panel_bytes(int head_dim) { return int64_t{16} * head_dim * kBytes; }
  /// Of element d of a panel's positions [8 half, 8 half + 8).
  __device__ static Eight key(const std::byte* panel, int d, int half, int /*head_dim*/) {
    return Element::load(panel + (d * 16 + half * 8) * kBytes, StreamingLoad());
  }
  /// Elements [d, d + 8) of a row of a head's values.
  template <class Load>
  __device__ static Eight value(const std::byte* head, int64_t row, int d, int stride, Load load) {
    return Element::load(head + (row * stride + d) * kBytes, load);
  }
};

struct SingleElement {
  static constexpr int kBytes = 4;
  static constexpr int kInFlight = 4;  ///< loads of eight elements that a thread issues ahead
  struct Eight {
    uint4 low, high;
  };
  template <class Load>
  __device__ static Eight load(const std::byte* p, Load load) {
    const uint4* quads = reinterpret_cast<const uint4*>(p);
    return {load(quads), load(quads + 1)};
  }
  __device__ static void unpack(const Eight& eight, float (&x)[8]) {
    const unsigned words[8] = {eight.low.x,  eight.low.y,  eight.low.z,  eight.low.w,
                               eight.high.x, eight.high.y, eight.high.z, eight.high.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = __uint_as_float(words[i]);
  }
};

__device__ inline float half_of(unsigned bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

struct HalfElement {
  static constexpr int kBytes = 2;
  static constexpr int kInFlight = 8;
  struct Eight {
    uint4 words;
  };
  template <class Load>
  __device__ static Eight load(const std::byte* p, Load load) {
    return {load(reinterpret_cast<const uint4*>(p))};
  }
  __device__ static void unpack(const Eight& eight, float (&x)[8]) {
    const unsigned words[4] = {eight.words.x, eight.words.y, eight.words.z, eight.words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = half_of(words[i] & 0xffff);
      x[2 * i + 1] = half_of(words[i] >> 16);
    }
  }
};

/// Loaded as halves are.
struct BrainElement : HalfElement {
  __device__ static void unpack(const Eight& eight, float (&x)[8]) {
    const unsigned words[4] = {eight.words.x, eight.words.y, eight.words.z, eight.words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = __uint_as_float(words[i] << 16);
      x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000);
    }
  }
};

using HalfKv = PlainKv<HalfElement>;
using BrainKv = PlainKv<BrainElement>;
using SingleKv = PlainKv<SingleElement>;

/// q8_0; head_dim is a multiple of 32. Scales are read again for each element, from the L1 cache.
struct BlockKv {
  static constexpr int kBytes = 1;
  static constexpr int kInFlight = 4;
  static constexpr int kBlock = static_cast<int>(kKvBlock);
  struct Eight {
    uint2 quants;
    uint4 scales;  ///< eight halves
  };

  __device__ static int64_t panel_bytes(int head_dim) {
    return int64_t{16} * (head_dim + head_dim / kBlock * static_cast<int>(kKvScaleBytes));
  }
  __device__ static Eight key(const std::byte* panel, int d, int half, int head_dim) {
    const std::byte* scales = panel + 16 * (head_dim + d / kBlock * 2) + half * 16;
    return {load_streaming(reinterpret_cast<const uint2*>(panel + d * 16 + half * 8)),
            __ldg(reinterpret_cast<const uint4*>(scales))};
  }
  template <class Load>
  __device__ static Eight value(const std::byte* head, int64_t row, int d, int stride, Load load) {
    const std::byte* panel = head + (row >> 4) * panel_bytes(stride);
    const int lane = static_cast<int>(row & 15);
    const std::byte* scale = panel + 16 * stride + (lane * (stride / kBlock) + d / kBlock) * 2;
    const unsigned both = *reinterpret_cast<const unsigned short*>(scale) * 0x10001u;
    return {load(reinterpret_cast<const uint2*>(panel + lane * stride + d)),
            make_uint4(both, both, both, both)};
  }
  /// A byte under the exponent of 2^23 is 2^23 + byte: no conversion, which has a quarter of the
  /// rate of other arithmetic.
  __device__ static float quant(unsigned biased, int i) {
    return __uint_as_float(0x4b000000 | (biased >> 8 * i & 0xff)) - (8388608.0f + 128.0f);
  }
  __device__ static void unpack(const Eight& eight, float (&x)[8]) {
    const unsigned scales[4] = {eight.scales.x, eight.scales.y, eight.scales.z, eight.scales.w};
    const unsigned quads[2] = {eight.quants.x ^ 0x80808080, eight.quants.y ^ 0x80808080};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = quant(quads[i / 2], 2 * i % 4) * half_of(scales[i] & 0xffff);
      x[2 * i + 1] = quant(quads[i / 2], 2 * i % 4 + 1) * half_of(scales[i] >> 16);
    }
  }
};

/// Calls f with an object of the format's type.
template <class Function>
void with_kv_format(DType dtype, const Function& f) {
  switch (dtype) {
    case DType::kF32:
      return f(SingleKv());
    case DType::kBF16:
      return f(BrainKv());
    case DType::kQ8_0:
      return f(BlockKv());
    default:
      return f(HalfKv());
  }
}

}  // namespace tandem::cuda
