// The CPU kernels, compiled once per instruction set (CMake defines TANDEM_ISA and the compiler's
// flags). Everything lies in a namespace named after the set, so the linker can never pick AVX-512
// code for the generic one.
#include <cstddef>
#include <cstdint>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "kernels/activation.h"
#include "kernels/format_q4_0.h"
#include "kernels/format_q8_0.h"
#include "kernels/formats.h"
#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/kv_format.h"
#include "kernels/range.h"

#define TANDEM_TEXT(x) #x
#define TANDEM_NAME(x) TANDEM_TEXT(x)

namespace tandem::TANDEM_ISA {

#include TANDEM_VEC  // CMake says which vector type the set works on

#include "kernels/body_math.h"
//
#include "kernels/body_kv.h"
//
#include "kernels/body_attention.h"
#include "kernels/body_linear.h"
#include "kernels/body_peak.h"

namespace {

ActivationFormat format(DType weights) {
  switch (weights) {
    case DType::kF32:
    case DType::kF16:
      return ActivationFormat::kF32;
    case DType::kBF16:
      return kHasBF16Dot || kHasTiles ? ActivationFormat::kBF16 : ActivationFormat::kF32;
    default:
      return ActivationFormat::kQ8;
  }
}

}  // namespace

extern const KernelSet kKernels;
const KernelSet kKernels{.name = TANDEM_NAME(TANDEM_ISA),
                         .format = format,
                         .rms_norm = rms_norm,
                         .prepare = prepare,
                         .linear = linear,
                         .tokens_at_once = kHasTiles ? kMostTokensAtOnce : kTileTokens,
                         .swiglu = swiglu,
                         .attention = attention,
                         .merge = merge,
                         .convert = convert,
                         .argmax = argmax,
                         .read = read,
                         .peak = peak};

}  // namespace tandem::TANDEM_ISA
