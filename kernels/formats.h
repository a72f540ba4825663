// Every format of quantised blocks that is a file format_*.h, by dtype.
#pragma once

#include "kernels/dtype.h"
#include "kernels/format_iq4_nl.h"
#include "kernels/format_iq4_xs.h"
#include "kernels/format_q2_k.h"
#include "kernels/format_q3_k.h"
#include "kernels/format_q4_1.h"
#include "kernels/format_q4_k.h"
#include "kernels/format_q5_0.h"
#include "kernels/format_q5_1.h"
#include "kernels/format_q5_k.h"
#include "kernels/format_q6_k.h"

namespace tandem {

/// f(Format{}) of a dtype that has such a file; nothing of another.
template <class Function>
constexpr void with_quant_format(DType dtype, const Function& f) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ4_0:
      return;
    case DType::kQ4_1:
      return f(Q4_1{});
    case DType::kQ5_0:
      return f(Q5_0{});
    case DType::kQ5_1:
      return f(Q5_1{});
    case DType::kQ2_K:
      return f(Q2_K{});
    case DType::kQ3_K:
      return f(Q3_K{});
    case DType::kQ4_K:
      return f(Q4_K{});
    case DType::kQ5_K:
      return f(Q5_K{});
    case DType::kQ6_K:
      return f(Q6_K{});
    case DType::kIQ4_NL:
      return f(IQ4_NL{});
    case DType::kIQ4_XS:
      return f(IQ4_XS{});
  }
}

/// The 32 elements `b` of a row.
template <class Format>
Quants decode_quants(DType dtype, const std::byte* row, int64_t b) {
  const int64_t blocks = Format::kFormat.superblock / 32;
  Quants quants;
  Format::decode(row + b / blocks * info(dtype).block_bytes, b % blocks, quants);
  return quants;
}

}  // namespace tandem
