// Rates of single kernels of a CUDA unit, over buffers that no cache holds. Each checks its result
// first: Error where it is wrong.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "sim/model_spec.h"
#include "tests/bench/gpu_timing.h"

namespace tandem::bench {

/// Bytes read and written per second by copies within the device's memory.
double copy_bytes_per_s(const GpuTimer& gpu, int64_t bytes, int runs);

/// Bytes of weights per second of linears of one token: matrices of `bytes`, as many as make up
/// `rotated_bytes`.
double linear_bytes_per_s(GpuTimer& gpu, DType dtype, int64_t bytes, int64_t rotated_bytes,
                          int runs);

/// Bytes of keys and values per second of attention of one token, F16, heads as llama-3-8b has
/// them.
double attention_bytes_per_s(GpuTimer& gpu, int64_t context, int64_t rotated_bytes, int runs);

/// Seconds of a hand-off between the unit and the host, with the copy of what one token's residual
/// stream takes: half of a turn.
double exchange_s(GpuTimer& gpu, int64_t hidden_size, int runs);

/// Seconds of the plain matrix products, cuBLAS and BF16, of all layers of a model for so many
/// tokens. 0 where the machine has no cuBLASLt.
double products_s(const GpuTimer& gpu, const ModelSpec& model, int64_t tokens, int runs);

}  // namespace tandem::bench
