// How much of its own memory a CUDA unit takes beside matrices (cuda_planes.h): scratch for steps
// within some limits. The device makes what this says, and a plan counts it where there is no CUDA
// at all.
#pragma once

#include <cstdint>

#include "kernels/cuda_planes.h"
#include "kernels/device.h"
#include "kernels/kernel_set.h"

namespace tandem::cuda {

/// Columns of one matrix product of many tokens: bounds the scratch that holds the result.
inline constexpr int64_t kProductColumns = 16384;
/// What cuBLASLt may use to split sums over k.
inline constexpr int64_t kBlasWorkspaceBytes = 16 << 20;

/// All forms of an input that linears read (see Prepared), each rounded to 256 bytes.
struct InputBytes {
  int64_t floats = 0;
  int64_t quants = 0;
  int64_t scales = 0;
  int64_t all() const { return floats + quants + scales; }
};
InputBytes input_bytes(int64_t tokens, int64_t k);

/// How a product of many tokens is cut so that it fits in scratch, and the bytes of the pieces.
/// They never shrink where tokens, k or columns grow, so that what was reserved for the largest
/// step is enough.
struct ProductPieces {
  int64_t tokens = 0;
  int64_t columns = 0;  ///< that are decoded at a time
  int64_t input_bytes = 0;
  int64_t tile_bytes = 0;
  int64_t bytes() const { return kBlasWorkspaceBytes + input_bytes + tile_bytes; }
};
ProductPieces product_pieces(int64_t tokens, int64_t k, int64_t columns);
/// Scratch that a product of many tokens needs beside its result.
int64_t prefill_scratch_bytes(int64_t tokens, int64_t k, int64_t columns);
/// States of all chunks that a part of at most kTileTokens tokens touches; more tokens need none.
int64_t attention_scratch_bytes(int64_t tokens, int64_t heads, int64_t head_dim,
                                int64_t max_context);

/// Bytes of the parts of CudaDevice's scratch.
struct CudaWorkspace {
  int64_t inputs = 0;        ///< an input's forms
  int64_t products = 0;      ///< raw products that a second kernel finishes
  int64_t prefill = 0;       ///< prefill_scratch_bytes
  int64_t chunk_states = 0;  ///< attention_scratch_bytes
  int64_t bytes() const { return inputs + products + prefill + chunk_states; }
};
CudaWorkspace cuda_workspace(const DeviceLimits& limits);

}  // namespace tandem::cuda
