// Matrix products of cuBLASLt, with its descriptors and choices of kernel kept per shape. Null
// where the machine has no cuBLASLt. Included by cuda_blas.cu and cuda_prefill.cu only.
#pragma once

#include <cuda_runtime.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "kernels/cuda_kernels.cuh"

namespace tandem::cuda {

/// y[t][c] = x[t] . w[c]: w is [columns x k] and x [tokens x k] of one element type, y is f32; sums
/// are in f32. Strides are in elements.
struct Product {
  cudaDataType_t type;
  int64_t columns;
  int64_t tokens;
  int64_t k;
  const void* w;
  int64_t w_stride;
  const void* x;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
  std::byte* workspace;  ///< kBlasWorkspaceBytes, 256-byte aligned
};
/// Queues a product. False: the library has no kernel for it, and nothing was queued.
bool multiply(Blas& blas, const Product& product, cudaStream_t stream);

}  // namespace tandem::cuda
