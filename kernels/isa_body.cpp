// The CPU kernels, compiled once per instruction set (CMake defines TANDEM_ISA and the compiler's
// flags). Everything lies in a namespace named after the set, so the linker can never pick AVX-512
// code for the generic one.
#include <cstddef>
#include <cstdint>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/activation.h"
#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/range.h"

#define TANDEM_TEXT(x) #x
#define TANDEM_NAME(x) TANDEM_TEXT(x)

namespace tandem::TANDEM_ISA {

#if defined(__AVX512F__)
#include "kernels/vec_avx512.h"
#elif defined(__AVX2__)
#include "kernels/vec_avx2.h"
#else
#include "kernels/vec_generic.h"
#endif

#include "kernels/body_math.h"
//
#include "kernels/body_attention.h"
#include "kernels/body_linear.h"

namespace {

ActivationFormat format(DType weights) {
  switch (weights) {
    case DType::kF32:
    case DType::kF16:
      return ActivationFormat::kF32;
    case DType::kBF16:
      return kHasBF16Dot ? ActivationFormat::kBF16 : ActivationFormat::kF32;
    case DType::kQ8_0:
    case DType::kQ4_0:
      return ActivationFormat::kQ8;
  }
  return ActivationFormat::kF32;
}

}  // namespace

extern const KernelSet kKernels;
const KernelSet kKernels{.name = TANDEM_NAME(TANDEM_ISA),
                         .format = format,
                         .rms_norm = rms_norm,
                         .prepare = prepare,
                         .linear = linear,
                         .swiglu = swiglu,
                         .attention = attention,
                         .merge = merge,
                         .convert = convert,
                         .argmax = argmax,
                         .read = read};

}  // namespace tandem::TANDEM_ISA
