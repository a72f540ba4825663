// What follows the products of many tokens: the residual, SwiGLU, and the copy for other units.
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda_formats.cuh"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;

struct FinishArguments {
  const float* products;
  const float* up;  ///< where products are gates, or null
  int64_t products_stride;
  int64_t columns;
  int64_t tokens;
  float* y;  ///< [tokens x y_stride], the first of `columns` in front
  float* shared;
  int64_t y_stride;
  bool add;
};

/// Bound by memory: 8 to 16 bytes an element. Grid: (columns, tokens).
__global__ void __launch_bounds__(kThreads) finish_products(const FinishArguments a) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= a.columns) return;
  for (int64_t t = blockIdx.y; t < a.tokens; t += gridDim.y) {
    float value = a.products[t * a.products_stride + c];
    if (a.up != nullptr) value = swiglu<DeviceOps>(value, a.up[t * a.products_stride + c]);
    const int64_t at = t * a.y_stride + c;
    if (a.add) value = a.y[at] + value;
    a.y[at] = value;
    if (a.shared != nullptr) a.shared[at] = value;
  }
}

void finish(const FinishArguments& args, cudaStream_t stream) {
  constexpr int64_t kMostRows = 65535;  // a grid's y
  if (args.columns == 0 || args.tokens == 0) return;
  launch({.grid = dim3(static_cast<unsigned>(div_up(args.columns, kThreads)),
                       static_cast<unsigned>(std::min(args.tokens, kMostRows))),
          .block = dim3(kThreads),
          .stream = stream},
         finish_products, args);
}

float* from_column(float* y, int64_t column) { return y == nullptr ? nullptr : y + column; }

}  // namespace

void finish_linear(const float* products, int64_t products_stride, const LinearLaunch& request,
                   cudaStream_t stream) {
  finish({.products = products,
          .up = nullptr,
          .products_stride = products_stride,
          .columns = request.columns.size(),
          .tokens = request.tokens,
          .y = from_column(request.y, request.columns.begin),
          .shared = from_column(request.shared, request.columns.begin),
          .y_stride = request.y_stride,
          .add = request.add},
         stream);
}

void finish_gate_up(const float* gate, const float* up, const GateUpLaunch& request,
                    cudaStream_t stream) {
  finish({.products = gate,
          .up = up,
          .products_stride = request.columns.size(),
          .columns = request.columns.size(),
          .tokens = request.tokens,
          .y = from_column(request.h, request.columns.begin),
          .shared = from_column(request.shared, request.columns.begin),
          .y_stride = request.h_stride,
          .add = false},
         stream);
}

}  // namespace tandem::cuda
