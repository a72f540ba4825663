// The formats of weights on a device, the choice of one by dtype, and loads of what lies in planes.
// The arithmetic is in cuda_chunk_math.h.
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_arithmetic.h"
#include "kernels/cuda_chunk_math.h"
#include "kernels/dtype.h"
#include "kernels/formats.h"

namespace tandem::cuda {

struct DeviceOps {
  static __device__ float from_f16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  static __device__ int32_t dot4(uint32_t a, uint32_t b, int32_t sum) {
    return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
  }
  static __device__ void look_up(uint32_t nibbles, uint32_t& lower, uint32_t& upper) {
    // The lower three bits of a nibble choose in each half of the table, then its highest one
    // chooses between the two: four nibbles at a time, which are those of two bytes.
    const uint32_t index = nibbles & 0x77777777u;
    const uint32_t half = (nibbles & 0x88888888u) >> 1 | 0x32103210u;
    const uint32_t first = look_up_four(index, half);
    const uint32_t last = look_up_four(index >> 16, half >> 16);
    lower = __byte_perm(first, last, 0x6420);
    upper = __byte_perm(first, last, 0x7531);
  }
  static __device__ float add(float a, float b) { return __fadd_rn(a, b); }

 private:
  static __device__ uint32_t look_up_four(uint32_t index, uint32_t half) {
    const uint32_t low = __byte_perm(static_cast<uint32_t>(kIq4Lower),
                                     static_cast<uint32_t>(kIq4Lower >> 32), index);
    const uint32_t high = __byte_perm(static_cast<uint32_t>(kIq4Upper),
                                      static_cast<uint32_t>(kIq4Upper >> 32), index);
    return __byte_perm(low, high, half);
  }
};

/// f(Format{}) of one of kCommonDTypes; nothing of another.
template <class Function>
void with_common_format(DType dtype, const Function& f) {
  switch (dtype) {
    case DType::kF32:
      return f(FloatFormat<F32Element, DeviceOps>{});
    case DType::kF16:
      return f(FloatFormat<F16Element, DeviceOps>{});
    case DType::kBF16:
      return f(FloatFormat<BF16Element, DeviceOps>{});
    case DType::kQ8_0:
      return f(BlockFormat<Q8_0Block, DeviceOps>{});
    case DType::kQ4_0:
      return f(BlockFormat<Q4_0Block, DeviceOps>{});
    default:
      return;
  }
}
/// The same of one that formats.h lists.
template <class Function>
void with_plane_format(DType dtype, const Function& f) {
  with_quant_format(
      dtype, [&](auto source) { f(BlockFormat<PlaneBlock<decltype(source)>, DeviceOps>{}); });
}

/// So many bytes that no kernel writes meanwhile, in one word: 0, 1, 2 or 4.
template <int kBytes>
__device__ uint32_t load_bytes(const std::byte* address) {
  static_assert(kBytes <= 4 && kBytes != 3);
  if constexpr (kBytes == 1) {
    return __ldg(reinterpret_cast<const uint8_t*>(address));
  } else if constexpr (kBytes == 2) {
    return __ldg(reinterpret_cast<const uint16_t*>(address));
  } else if constexpr (kBytes == 4) {
    return __ldg(reinterpret_cast<const uint32_t*>(address));
  } else {
    return 0;
  }
}

}  // namespace tandem::cuda
