// The formats of weights on a device, and the choice of one by dtype. The arithmetic is in
// cuda_arithmetic.h.
#pragma once

#include <cuda_fp16.h>

#include <cassert>

#include "kernels/cuda_arithmetic.h"
#include "kernels/dtype.h"

namespace tandem::cuda {

struct DeviceOps {
  static __device__ float from_f16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
  static __device__ int32_t dot4(uint32_t a, uint32_t b, int32_t sum) {
    return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
  }
  static __device__ float add(float a, float b) { return __fadd_rn(a, b); }
};

/// f(Format{}) of a dtype's format.
template <class Function>
void with_format(DType dtype, const Function& f) {
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
    default:  // plans that give a CUDA unit another are refused, see check_unit_dtypes()
      break;
  }
  assert(false);
}

}  // namespace tandem::cuda
