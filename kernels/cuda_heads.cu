// What follows the products of qkv: bias, QK norm, RoPE, and where queries, keys and values go.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda_arithmetic.h"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_warp.cuh"
#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/kv_format.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;  // of a block, each of them on its own
static_assert(kLanes == kKvBlock);

/// A step buffer in numbers that device code may use.
struct StepHeads {
  std::byte* k;
  std::byte* v;
  int64_t k_head_bytes;
  int64_t v_head_bytes;
  int first_kv_head;

  explicit StepHeads(const KvView& view)
      : k(view.k),
        v(view.v),
        k_head_bytes(view.k_head_bytes()),
        v_head_bytes(view.v_head_bytes()),
        first_kv_head(static_cast<int>(view.kv_heads.begin)) {}
};

/// What becomes of the products of one kind: queries, keys or values.
struct Kind {
  const float* bias;  ///< [heads of the whole matrix x head_dim], or null
  const float* norm;  ///< [head_dim], or null
  int rope_dim;       ///< 0 = not rotated
};

struct Arguments {
  const float* products;  ///< [tokens x products_stride]
  int64_t products_stride;
  int tokens;
  int first_kv_head;
  int num_kv_heads;
  int group;
  int head_dim;
  float norm_eps;
  bool neox;
  const float* cos_sin;  ///< [tokens x rope_dim / 2 x 2]
  Kind queries, keys, values;
  DeviceValue past;
  float* q;  ///< [tokens x q_stride]
  float* shared_q;
  int64_t q_stride;
  DType kv_dtype;
  KvLayout key_rows, value_rows;  ///< of both step buffers
  StepHeads step;
  StepHeads shared_step;  ///< k = null: nobody else reads it
};

/// One head of one token.
struct Head {
  const float* products;
  const float* bias;  ///< of the head, or null
  const float* norm;
  float scale;  ///< of the norm

  __device__ float plain(int i) const {
    return bias == nullptr ? products[i] : products[i] + bias[i];
  }
  __device__ float normed(int i) const {
    return norm == nullptr ? plain(i) : plain(i) * scale * norm[i];
  }
};

/// The scale of a head's RMS norm, by a warp.
__device__ float norm_scale(const Head& head, int head_dim, float eps, int lane) {
  float squares = 0;
  for (int i = lane; i < head_dim; i += kLanes)
    squares = fmaf(head.plain(i), head.plain(i), squares);
  return rms_scale(warp_sum(squares), head_dim, eps);
}

/// Calls store(i, value) for this lane's elements of a head.
template <class Store>
__device__ void for_elements(const Arguments& a, const Kind& kind, const Head& head, int token,
                             int lane, const Store& store) {
  const int pairs = kind.rope_dim / 2;
  const float* cos_sin = a.cos_sin + static_cast<int64_t>(token) * kind.rope_dim;
  for (int i = lane; i < pairs; i += kLanes) {
    const PairIndex at = rope_pair(i, kind.rope_dim, a.neox);
    const Pair rotated =
        rotate({head.normed(at.first), head.normed(at.second)}, cos_sin[2 * i], cos_sin[2 * i + 1]);
    store(at.first, rotated.first);
    store(at.second, rotated.second);
  }
  for (int i = 2 * pairs + lane; i < a.head_dim; i += kLanes) store(i, head.normed(i));
}

/// An element as a format stores it, and the scale of its block, where there is one.
struct Rounded {
  uint32_t bits;
  uint16_t scale;
};

/// Of a value and the others of its block, which the warp's other lanes have.
__device__ Rounded round_to(DType dtype, float value) {
  if (dtype == DType::kF32) return {__float_as_uint(value), 0};
  if (dtype == DType::kF16) return {__half_as_ushort(__float2half_rn(value)), 0};
  if (dtype == DType::kBF16) return {f32_to_bf16(value), 0};
  float top = fabsf(value);
  for (int mask = kLanes / 2; mask > 0; mask /= 2)
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, mask));
  const int32_t quant = quantize(value, quant_inverse(top));
  return {static_cast<uint32_t>(quant), __half_as_ushort(__float2half_rn(quant_scale(top)))};
}

/// Element i of the key or value of a row in a step buffer.
__device__ void store_in_step(const Arguments& a, const StepHeads& step, bool key, int kv_head,
                              int64_t row, int i, const Rounded& element) {
  if (step.k == nullptr) return;
  const int64_t head = kv_head - step.first_kv_head;
  const KvLayout& layout = key ? a.key_rows : a.value_rows;
  std::byte* first = key ? step.k + head * step.k_head_bytes : step.v + head * step.v_head_bytes;
  const KvRow to = kv_row(layout, first, row);
  if (layout.element_bytes == 4) {
    reinterpret_cast<uint32_t*>(to.elements)[i * to.stride] = element.bits;
  } else if (layout.element_bytes == 2) {
    reinterpret_cast<uint16_t*>(to.elements)[i * to.stride] = static_cast<uint16_t>(element.bits);
  } else {
    reinterpret_cast<uint8_t*>(to.elements)[i * to.stride] = static_cast<uint8_t>(element.bits);
    if (i % kLanes == 0)
      reinterpret_cast<uint16_t*>(to.scales)[i / kLanes * to.stride] = element.scale;
  }
}

__device__ void finish_query(const Arguments& a, const Head& head, int token, int64_t query_head,
                             int lane) {
  const int64_t begin = token * a.q_stride + query_head * a.head_dim;
  for_elements(a, a.queries, head, token, lane, [&](int i, float value) {
    a.q[begin + i] = value;
    if (a.shared_q != nullptr) a.shared_q[begin + i] = value;
  });
}

__device__ void finish_key_or_value(const Arguments& a, const Head& head, bool key, int token,
                                    int kv_head, int lane) {
  const int64_t row = a.past.get() % kKvPanel + token;
  // RoPE's pairs are no neighbours, a block's elements are.
  __shared__ float values[kWarps][kMaxHeadDim];
  float* own = values[threadIdx.x / kLanes];
  for_elements(a, key ? a.keys : a.values, head, token, lane,
               [&](int i, float value) { own[i] = value; });
  __syncwarp();
  for (int first = 0; first < a.head_dim; first += kLanes) {
    const int i = first + lane;
    const Rounded element = round_to(a.kv_dtype, i < a.head_dim ? own[i] : 0);
    if (i >= a.head_dim) continue;
    store_in_step(a, a.step, key, kv_head, row, i, element);
    store_in_step(a, a.shared_step, key, kv_head, row, i, element);
  }
}

/// A warp does one head of one token. Bound by latency for one token (48 warps of a llama-3-8b), by
/// memory for many: a product is read once or twice and written once, keys in pieces of 2 bytes.
__global__ void __launch_bounds__(kWarps* kLanes) finish_head(const Arguments a) {
  const int lane = lane_of_thread();
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + warp_of_thread();
  const int queries = a.num_kv_heads * a.group, heads = queries + 2 * a.num_kv_heads;
  const int token = static_cast<int>(item / heads), local = static_cast<int>(item % heads);
  if (token >= a.tokens) return;
  const bool query = local < queries, key = !query && local < queries + a.num_kv_heads;
  const Kind kind = query ? a.queries : key ? a.keys : a.values;
  const int first = query ? a.first_kv_head * a.group : a.first_kv_head;
  const int index = first + (query ? local : (local - queries) % a.num_kv_heads);
  Head head{
      .products = a.products + token * a.products_stride + static_cast<int64_t>(local) * a.head_dim,
      .bias = kind.bias == nullptr ? nullptr : kind.bias + static_cast<int64_t>(index) * a.head_dim,
      .norm = kind.norm,
      .scale = 1};
  if (head.norm != nullptr) head.scale = norm_scale(head, a.head_dim, a.norm_eps, lane);
  if (query) {
    finish_query(a, head, token, index, lane);
  } else {
    finish_key_or_value(a, head, key, token, index, lane);
  }
}

}  // namespace

void finish_heads(const HeadsLaunch& request, cudaStream_t stream) {
  const QkvArgs& args = request.args;
  const int64_t tokens = args.input.tokens, kv_heads = args.kv_heads.size();
  if (tokens == 0 || kv_heads == 0) return;
  const auto rope_dim = static_cast<int>(args.rope_dim);
  const Arguments arguments{.products = request.products,
                            .products_stride = request.products_stride,
                            .tokens = static_cast<int>(tokens),
                            .first_kv_head = static_cast<int>(args.kv_heads.begin),
                            .num_kv_heads = static_cast<int>(kv_heads),
                            .group = static_cast<int>(args.group),
                            .head_dim = static_cast<int>(args.head_dim),
                            .norm_eps = args.input.norm_eps,
                            .neox = args.rope_order == RopeOrder::kNeox,
                            .cos_sin = args.cos_sin,
                            .queries = {.bias = args.bq, .norm = args.q_norm, .rope_dim = rope_dim},
                            .keys = {.bias = args.bk, .norm = args.k_norm, .rope_dim = rope_dim},
                            .values = {.bias = args.bv, .norm = nullptr, .rope_dim = 0},
                            .past = request.past,
                            .q = args.q,
                            .shared_q = request.shared_q,
                            .q_stride = args.q_stride,
                            .kv_dtype = args.step.dtype,
                            .key_rows = args.step.keys(),
                            .value_rows = args.step.values(),
                            .step = StepHeads(args.step),
                            .shared_step = StepHeads(request.shared_step)};
  const int64_t warps = tokens * kv_heads * (args.group + 2);
  launch({.grid = dim3(static_cast<unsigned>(div_up(warps, kWarps))),
          .block = dim3(kWarps * kLanes),
          .stream = stream},
         finish_head, arguments);
}

}  // namespace tandem::cuda
