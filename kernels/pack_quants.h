// What kernel_set.h says of packing, for the formats that formats.h lists. For pack.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace tandem {

int64_t quant_panel_bytes(DType dtype, int64_t k);
void pack_quant_panel(DType dtype, const std::byte* const rows[16], int64_t k, std::byte* panel);
void dequantize_quants(DType dtype, const std::byte* row, int64_t k, float* out);
void unpack_quant_column(DType dtype, const std::byte* panel, int64_t lane, int64_t k, float* out);

}  // namespace tandem
