// Linears of many tokens, bound by arithmetic: weights and inputs in a form that cuBLASLt
// multiplies, f16 or bf16 (F32 weights: f32), with sums in f32.
//
// Roofline (H200, llama-3-8b gate, 512 tokens): 60 GFLOP, 80 us at the 750 TFLOP/s that a dense
// bf16 product reaches. Weights of F16, BF16 and F32 are multiplied where they lie. Decoding Q4_0
// first moves 33 + 117 MB, 35 us at 4.2 TB/s, and the product finds part of the result in the L2;
// so it is at most a third slower than bf16, and needs no tensor-core kernel of our own.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda_blas.cuh"
#include "kernels/cuda_formats.cuh"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEight = 8;  // elements of 2 bytes that a thread writes

/// The largest half: an input beyond it counts as this much, where infinity would spoil the row.
constexpr float kLargestHalf = 65504;

__device__ uint32_t half_bits(float x, bool bf16) {
  if (bf16) return __bfloat16_as_ushort(__float2bfloat16_rn(x));
  if (x > kLargestHalf) x = kLargestHalf;
  if (x < -kLargestHalf) x = -kLargestHalf;
  return __half_as_ushort(__float2half_rn(x));
}

__device__ uint4 eight_halves(const float (&x)[kEight], bool bf16) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    words[i] = half_bits(x[2 * i], bf16) | half_bits(x[2 * i + 1], bf16) << 16;
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// Elements i .. i + 7 of a row, zero beyond its end. Aligned: rows are made of whole 16 bytes, and
/// of whole eights.
__device__ void load_eight(const float* row, int i, int k, bool aligned, float (&out)[kEight]) {
  if (aligned) {
    const float4 a = reinterpret_cast<const float4*>(row + i)[0];
    const float4 b = reinterpret_cast<const float4*>(row + i)[1];
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
    out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
  } else {
#pragma unroll
    for (int j = 0; j < kEight; ++j) out[j] = i + j < k ? row[i + j] : 0;
  }
}

struct ConvertArguments {
  const float* x;  ///< [rows x k]
  int64_t rows;
  int k;
  bool aligned;
  bool bf16;
  uint4* out;  ///< [rows x k, rounded up to eights]
};

/// Grid: (eights of a row, rows).
__global__ void __launch_bounds__(kThreads) convert_rows(const ConvertArguments a) {
  const int eights = (a.k + kEight - 1) / kEight;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= eights) return;
  for (int64_t row = blockIdx.y; row < a.rows; row += gridDim.y) {
    float values[kEight];
    load_eight(a.x + row * a.k, kEight * i, a.k, a.aligned, values);
    a.out[row * eights + i] = eight_halves(values, a.bf16);
  }
}

/// Columns of quants, as in WeightMatrix.
struct DecodeArguments {
  Plane planes[kPlanes];
  int k;
  int columns;
  uint4* out;  ///< [columns x k] halves
};

template <class Format>
__device__ EightQuants load_eight_quants(const DecodeArguments& a, int64_t column, int group) {
  const PlaneOffsets at = Format::eight_offsets(group);
  const auto begin = [column](const Plane& plane) { return skip_columns(plane, column).data; };
  const uint2 low = __ldg(reinterpret_cast<const uint2*>(begin(a.planes[kLowPlane]) + at.low));
  constexpr int kHighBytes = Format::kHighBytes > 0 ? 4 : 0;
  return {{{low.x, low.y}},
          load_bytes<kHighBytes>(begin(a.planes[kHighPlane]) + at.high),
          load_bytes<Format::kScaleBytes>(begin(a.planes[kScalePlane]) + at.scales),
          load_bytes<Format::kFactorBytes>(begin(a.planes[kFactorPlane]) + at.factors)};
}

/// Grid: (eights of a column, columns).
template <class Format>
__global__ void __launch_bounds__(kThreads) decode_columns(const DecodeArguments a) {
  const int eights = a.k / kEight;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= eights) return;
  for (int64_t c = blockIdx.y; c < a.columns; c += gridDim.y) {
    float values[kEight];
    Format::decode_eight(load_eight_quants<Format>(a, c, i), i, values);
    a.out[c * eights + i] = eight_halves(values, false);
  }
}

// --- host
// ------------------------------------------------------------------------------------------

LaunchShape shape_of(int64_t eights, int64_t rows, cudaStream_t stream) {
  constexpr int64_t kMostRows = 65535;  // a grid's y
  return {.grid = dim3(static_cast<unsigned>(div_up(eights, kThreads)),
                       static_cast<unsigned>(std::min(rows, kMostRows))),
          .block = dim3(kThreads),
          .stream = stream};
}

/// Rows that a product reads: where, and elements from one to the next.
struct Operand {
  const void* data;
  int64_t stride;
};

cudaDataType_t product_type(DType weights) {
  if (weights == DType::kF32) return CUDA_R_32F;
  return weights == DType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
}

Operand input_of_product(const PrefillLaunch& request, Range tokens, std::byte* scratch,
                         cudaStream_t stream) {
  const int64_t k = request.weights.k, eights = div_up(k, kEight);
  const float* x = request.x + tokens.begin * k;
  const cudaDataType_t type = product_type(request.weights.dtype);
  if (type == CUDA_R_32F) return {x, k};
  launch(shape_of(eights, tokens.size(), stream), convert_rows,
         ConvertArguments{
             .x = x,
             .rows = tokens.size(),
             .k = static_cast<int>(k),
             .aligned = k % kEight == 0 && reinterpret_cast<uintptr_t>(x) % sizeof(uint4) == 0,
             .bf16 = type == CUDA_R_16BF,
             .out = reinterpret_cast<uint4*>(scratch)});
  return {scratch, eights * kEight};
}

Operand weights_of_product(const WeightMatrix& weights, Range columns, std::byte* scratch,
                           cudaStream_t stream) {
  const int64_t first = columns.begin - weights.columns.begin, k = weights.k;
  if (!wants_quants(weights.dtype)) {
    const Plane elements = skip_columns(weights.planes[kLowPlane], first);
    return {elements.data, elements.column_bytes / info(weights.dtype).block_bytes};
  }
  DecodeArguments args{.planes = {},
                       .k = static_cast<int>(k),
                       .columns = static_cast<int>(columns.size()),
                       .out = reinterpret_cast<uint4*>(scratch)};
  for (int p = 0; p < kPlanes; ++p) args.planes[p] = skip_columns(weights.planes[p], first);
  const auto decode = [&](auto format) {
    using Format = decltype(format);
    if constexpr (Format::kQuants)
      launch(shape_of(k / kEight, columns.size(), stream), decode_columns<Format>, args);
  };
  with_common_format(weights.dtype, decode);
  with_plane_format(weights.dtype, decode);
  return {scratch, k};
}

/// Some tokens times all columns. False: the library cannot.
bool multiply_tokens(const PrefillLaunch& request, const ProductPieces& pieces, Range tokens,
                     cudaStream_t stream) {
  const WeightMatrix& weights = request.weights;
  const Range all = request.columns;
  std::byte* input = request.scratch + kBlasWorkspaceBytes;
  const Operand x = input_of_product(request, tokens, input, stream);
  const int64_t step = wants_quants(weights.dtype) ? pieces.columns : all.size();
  for (int64_t c = all.begin; c < all.end; c += step) {
    const Range columns{c, std::min(c + step, all.end)};
    const Operand w = weights_of_product(weights, columns, input + pieces.input_bytes, stream);
    const Product product{.type = product_type(weights.dtype),
                          .columns = columns.size(),
                          .tokens = tokens.size(),
                          .k = weights.k,
                          .w = w.data,
                          .w_stride = w.stride,
                          .x = x.data,
                          .x_stride = x.stride,
                          .y = request.y + tokens.begin * request.y_stride + (c - all.begin),
                          .y_stride = request.y_stride,
                          .workspace = request.scratch};
    if (!multiply(*request.blas, product, stream)) return false;
  }
  return true;
}

bool multiply_all(const PrefillLaunch& request, cudaStream_t stream) {
  const ProductPieces pieces =
      product_pieces(request.tokens, request.weights.k, request.columns.size());
  for (int64_t t = 0; t < request.tokens; t += pieces.tokens) {
    const Range tokens{t, std::min(t + pieces.tokens, request.tokens)};
    if (!multiply_tokens(request, pieces, tokens, stream)) return false;
  }
  return true;
}

// --- without the library
// ---------------------------------------------------------------------------

/// Where the quants of a few tokens lie in scratch.
Prepared few_quants(std::byte* scratch, int64_t k) {
  return {.quants = reinterpret_cast<int8_t*>(scratch),
          .scales = reinterpret_cast<float*>(scratch + input_bytes(kTileTokens, k).quants)};
}

void multiply_by_few(const PrefillLaunch& request, cudaStream_t stream) {
  const int64_t k = request.weights.k;
  for (int64_t t = 0; t < request.tokens; t += kTileTokens) {
    const int64_t tokens = std::min(kTileTokens, request.tokens - t);
    const float* x = request.x + t * k;
    Prepared input{.x = const_cast<float*>(x)};  // only read
    if (wants_quants(request.weights.dtype)) {
      input = few_quants(request.scratch, k);
      prepare({.x = x, .tokens = tokens, .k = k, .quants = true, .out = input}, stream);
    }
    linear({.weights = request.weights,
            .input = input,
            .tokens = tokens,
            .columns = request.columns,
            .y = request.y + t * request.y_stride - request.columns.begin,
            .y_stride = request.y_stride},
           stream);
  }
}

}  // namespace

void prefill(const PrefillLaunch& request, cudaStream_t stream) {
  if (request.columns.empty()) return;
  if (request.blas == nullptr || !multiply_all(request, stream)) multiply_by_few(request, stream);
}

}  // namespace tandem::cuda
