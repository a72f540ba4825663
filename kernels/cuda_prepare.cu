// Inputs of linears: the RMS norm of a row, and its quantisation.
#include <cuda_runtime.h>

#include <cassert>

#include "kernels/cuda_arithmetic.h"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_warp.cuh"

namespace tandem::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / kLanes;
constexpr int kQuadsOfBlock = 8;  // a block of 32 elements is the float4s of 8 neighbouring lanes

struct Arguments {
  const float* x;
  const float* norm_weight;  ///< or null
  float norm_eps;
  int k;
  bool quants;
  Prepared out;
};

/// Elements 4 quad .. 4 quad + 3 of a row, zero beyond its end.
__device__ float4 load_quad(const float* row, int quad, int k, bool aligned) {
  if (aligned) return reinterpret_cast<const float4*>(row)[quad];
  const int i = 4 * quad;
  return {i < k ? row[i] : 0, i + 1 < k ? row[i + 1] : 0, i + 2 < k ? row[i + 2] : 0,
          i + 3 < k ? row[i + 3] : 0};
}

__device__ void store_quad(float* row, int quad, int k, bool aligned, float4 x) {
  if (aligned) {
    reinterpret_cast<float4*>(row)[quad] = x;
    return;
  }
  const int i = 4 * quad;
  if (i < k) row[i] = x.x;
  if (i + 1 < k) row[i + 1] = x.y;
  if (i + 2 < k) row[i + 2] = x.z;
  if (i + 3 < k) row[i + 3] = x.w;
}

/// Whether a row of k floats can be read 16 bytes at a time.
__device__ bool aligned_for_quads(const float* row, int k) {
  return k % 4 == 0 && reinterpret_cast<uintptr_t>(row) % 16 == 0;
}

/// Sum of squares of a row over the block's threads, the same in all of them. Its order depends on
/// k alone, as the number of threads does.
__device__ float sum_of_squares(const float* row, int k, bool aligned) {
  __shared__ float of_warps[kMaxWarps];
  const int quads = (k + 3) / 4;
  float sum = 0;
  for (int quad = static_cast<int>(threadIdx.x); quad < quads;
       quad += static_cast<int>(blockDim.x)) {
    const float4 x = load_quad(row, quad, k, aligned);
    sum = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, sum))));
  }
  sum = warp_sum(sum);
  const int lane = lane_of_thread(), warps = static_cast<int>(blockDim.x) / kLanes;
  if (lane == 0) of_warps[warp_of_thread()] = sum;
  __syncthreads();
  return warp_sum(lane < warps ? of_warps[lane] : 0.0f);
}

/// This lane's quarter of an eighth of a row of quants; the block's first lane writes its
/// scale. All lanes of the warp call it, those beyond the row with zeros and `inside` = false.
__device__ void quantize_quad(float4 x, int quad, bool inside, int64_t token, int k,
                              const Prepared& out) {
  float top = fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w)));
  for (int mask = kQuadsOfBlock / 2; mask > 0; mask /= 2)
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, mask));
  const float inverse = quant_inverse(top);
  const int a = quantize(x.x, inverse), b = quantize(x.y, inverse);
  const int c = quantize(x.z, inverse), d = quantize(x.w, inverse);
  if (!inside) return;
  reinterpret_cast<char4*>(out.quants + token * k)[quad] =
      make_char4(static_cast<signed char>(a), static_cast<signed char>(b),
                 static_cast<signed char>(c), static_cast<signed char>(d));
  if (quad % kQuadsOfBlock == 0)
    out.scales[token * (k / 32) + quad / kQuadsOfBlock] = quant_scale(top);
}

/// One block a token. 4 k bytes read (the second time from the L1) and at most as many written, by
/// one multiprocessor: a few microseconds of latency, so as many threads as there is work for.
__global__ void __launch_bounds__(kMaxThreads) prepare_row(Arguments args) {
  const int64_t token = blockIdx.x;
  const int k = args.k, quads = (k + 3) / 4;
  const float* row = args.x + token * k;
  const bool aligned = aligned_for_quads(row, k);
  const bool aligned_weight = aligned_for_quads(args.norm_weight, k);
  float scale = 1;
  if (args.norm_weight != nullptr)
    scale = rms_scale(sum_of_squares(row, k, aligned), k, args.norm_eps);
  for (int quad = static_cast<int>(threadIdx.x); quad - lane_of_thread() < quads;  // whole warps
       quad += static_cast<int>(blockDim.x)) {
    const bool inside = quad < quads;
    float4 x = inside ? load_quad(row, quad, k, aligned) : make_float4(0, 0, 0, 0);
    if (args.norm_weight != nullptr && inside) {
      const float4 w = load_quad(args.norm_weight, quad, k, aligned_weight);
      x = make_float4(x.x * scale * w.x, x.y * scale * w.y, x.z * scale * w.z, x.w * scale * w.w);
    }
    if (args.quants) {
      quantize_quad(x, quad, inside, token, k, args.out);
    } else if (inside) {
      float* out = args.out.x + token * k;
      store_quad(out, quad, k, aligned_for_quads(out, k), x);
    }
  }
}

}  // namespace

bool wants_quants(DType weights) { return info(weights).block_size > 1; }

void prepare(const PrepareLaunch& launch, cudaStream_t stream) {
  assert(!launch.quants || launch.k % 32 == 0);
  const int64_t warps = div_up(div_up(launch.k, 4), kLanes);
  const auto threads = static_cast<unsigned>(kLanes * (warps < kMaxWarps ? warps : kMaxWarps));
  cuda::launch({.grid = dim3(static_cast<unsigned>(launch.tokens)),
                .block = dim3(threads),
                .stream = stream},
               prepare_row,
               Arguments{.x = launch.x,
                         .norm_weight = launch.norm_weight,
                         .norm_eps = launch.norm_eps,
                         .k = static_cast<int>(launch.k),
                         .quants = launch.quants,
                         .out = launch.out});
}

}  // namespace tandem::cuda
