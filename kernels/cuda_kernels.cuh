// What the CUDA unit's kernel files offer to cuda_device.cu: each function queues its kernels on a
// stream and returns. All pointers are to device memory, unless called `shared`: that is the
// device's address of exchanged host memory, where a result is written too (null = nobody else
// reads it). No allocation, no synchronisation, no host reads: every call can be captured in a
// graph and replayed.
#pragma once

#include <cuda_runtime.h>
#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda_workspace.h"
#include "kernels/device.h"

namespace tandem::cuda {

/// A StepValue on the device: `at` is the device's address of exchanged memory.
struct DeviceValue {
  const int64_t* at = nullptr;
  int64_t fixed = 0;
  __host__ __device__ int64_t get() const { return at != nullptr ? *at : fixed; }
};

// --- cuda_format.cu: weights in device memory
// ---------------------------------------------------------------------

/// Columns of a matrix. In a plane they lie without gaps; see ColumnLayout for what a column is
/// there. Where its elements end before its last 16 bytes do, zeros follow.
struct WeightMatrix {
  DType dtype = DType::kF32;
  int64_t k = 0;
  Range columns;  ///< those that lie here; column c is the (c - columns.begin)-th
  Plane planes[kPlanes];
};
/// The matrix whose matrix_bytes() begin at `base`.
WeightMatrix matrix_at(const std::byte* base, DType dtype, Range columns, int64_t k);
/// On the host: lays out columns of a source, whose rows are in file format, at `out` (matrix_bytes
/// of it). By as many threads on `cores` as there is work for; by this one alone where that is
/// null.
void pack_columns(const MatrixSource& source, Range columns, std::byte* out,
                  const cpu_set_t* cores = nullptr);

// --- cuda_prepare.cu: inputs of linears
// ---------------------------------------------------------------------------

/// Input rows in one of the two forms that linears of at most 16 tokens take; scratch of the
/// device.
struct Prepared {
  float* x = nullptr;  ///< [tokens x k], for F32, F16, BF16 weights
  int8_t* quants =
      nullptr;  ///< [tokens x k], for block formats: blocks of 32 as in ActivationFormat::kQ8
  float* scales = nullptr;  ///< [tokens x k / 32]
};
/// Whether a dtype's linears read quants (or x).
bool wants_quants(DType weights);
struct PrepareLaunch {
  const float* x = nullptr;  ///< [tokens x k]
  int64_t tokens = 0;
  int64_t k = 0;
  const float* norm_weight = nullptr;  ///< [k] or null
  float norm_eps = 0;
  bool quants = false;  ///< fill quants and scales; else x
  Prepared out;
};
void prepare(const PrepareLaunch& launch, cudaStream_t stream);

// --- cuda_linear.cu, cuda_linear_quants.cu: at most 16 tokens, bound by memory
// ------------------------------------------------------------

struct LinearLaunch {
  WeightMatrix weights;
  Prepared input;
  int64_t tokens = 0;  ///< <= 16
  Range columns;
  float* y = nullptr;  ///< [tokens x y_stride]; column c of the whole matrix at y[c]
  float* shared = nullptr;
  int64_t y_stride = 0;
  bool add = false;  ///< y += instead of y =
};
void linear(const LinearLaunch& launch, cudaStream_t stream);
/// The same for up to kMaxLinearsTogether of one input (q, k and v): neighbours of one dtype are
/// one launch.
void linear_together(std::span<const LinearLaunch> launches, cudaStream_t stream);
inline constexpr int kMaxLinearsTogether = 3;

struct GateUpLaunch {
  WeightMatrix gate, up;
  Prepared gate_input, up_input;  ///< the same where both dtypes want the same form
  int64_t tokens = 0;             ///< <= 16
  Range columns;
  float* h = nullptr;  ///< [tokens x h_stride]
  float* shared = nullptr;
  int64_t h_stride = 0;
};
void gate_up(const GateUpLaunch& launch, cudaStream_t stream);

// --- cuda_prefill.cu: more tokens, bound by arithmetic
// -------------------------------------------------------------

/// cuBLASLt where the machine has it (opened at run time), one per device. Null where it is absent:
/// linears of many tokens then go 16 at a time.
struct Blas;
Blas* open_blas();
void close_blas(Blas* blas);

struct PrefillLaunch {
  Blas* blas = nullptr;
  WeightMatrix weights;
  const float* x = nullptr;  ///< [tokens x k], normed already
  int64_t tokens = 0;
  Range columns;
  float* y = nullptr;  ///< [tokens x y_stride], written
  int64_t y_stride = 0;
  std::byte* scratch = nullptr;  ///< prefill_scratch_bytes, 256-byte aligned
};
/// y[t][c - columns.begin] = x[t] . column c.
void prefill(const PrefillLaunch& launch, cudaStream_t stream);
/// y[t][c] = or += products[t][c - columns.begin], and to `shared` too.
void finish_linear(const float* products, int64_t products_stride, const LinearLaunch& launch,
                   cudaStream_t stream);
/// h[t][c] = silu(gate[t][i]) * up[t][i], i = c - columns.begin; gate and up are [tokens x
/// columns].
void finish_gate_up(const float* gate, const float* up, const GateUpLaunch& launch,
                    cudaStream_t stream);

// --- cuda_heads.cu: what follows the products of qkv
// ---------------------------------------------------------------

/// Bias, QK norm and RoPE on raw products, queries to q, keys and values to the step buffer: see
/// QkvArgs, whose pointers are the device's here.
struct HeadsLaunch {
  const float* products =
      nullptr;  ///< [tokens x products_stride]: queries of kv_heads, their keys, their values
  int64_t products_stride = 0;  ///< kv_heads * (group + 2) * head_dim
  QkvArgs args;                 ///< input.x, wq, wk, wv unused; step is the device's copy
  DeviceValue past;
  float* shared_q = nullptr;
  KvView shared_step;  ///< k = null: nobody else reads it
};
void finish_heads(const HeadsLaunch& launch, cudaStream_t stream);

// --- cuda_attention.cu, cuda_merge.cu, cuda_argmax.cu, cuda_commit.cu
// ---------------------------------------------------------------------------------------------

/// See AttentionArgs, whose pointers are the device's here.
struct AttentionLaunch {
  AttentionArgs args;
  DeviceValue past;
  int64_t max_context = 0;        ///< past never exceeds this: grids are sized for it
  float* shared = nullptr;        ///< of args.out or args.state, whichever is given
  float* chunk_states = nullptr;  ///< attention_scratch_bytes
};
void attention(const AttentionLaunch& launch, cudaStream_t stream);

struct MergeLaunch {
  MergeArgs args;
  float* shared = nullptr;  ///< of args.out
};
/// At most kMaxMergedStates states.
void merge(const MergeLaunch& launch, cudaStream_t stream);
inline constexpr int kMaxMergedStates = 16;

struct ArgmaxLaunch {
  const float* values = nullptr;  ///< [n]
  int64_t n = 0;
  int32_t* shared = nullptr;
};
void argmax(const ArgmaxLaunch& launch, cudaStream_t stream);

struct CommitLaunch {
  CommitArgs args;  ///< rows and step buffers are the device's copies
  DeviceValue first_position;
};
void commit(const CommitLaunch& launch, cudaStream_t stream);

// --- cuda_exchange.cu
// -----------------------------------------------------------------------------------------------

/// Copies a block of exchanged memory (the device's address of it) to the device's own copy.
void receive(const std::byte* shared, std::byte* own, const Block& block, cudaStream_t stream);
/// Reads `bytes` of device memory once (a multiple of 16); `never` is written only if they are what
/// no memory holds.
void read_all(const std::byte* memory, int64_t bytes, uint32_t* never, cudaStream_t stream);
/// Writes the device's clock (ns) plus *offset_ns to *shared.
void stamp(int64_t* shared, const int64_t* offset_ns, cudaStream_t stream);

}  // namespace tandem::cuda
