// The linear stages of a CUDA unit: inputs are prepared once, columns go in pieces, and many tokens
// go by a matrix product and a kernel that finishes it.
#include <algorithm>
#include <array>
#include <span>

#include "kernels/cuda_device.cuh"
#include "kernels/kernel_set.h"

namespace tandem::cuda {
namespace {

const CudaMatrix* cuda_matrix(const PlacedMatrix* matrix) {
  return static_cast<const CudaMatrix*>(matrix);
}

/// Whether so many tokens go by matrix products.
bool by_products(int64_t tokens) { return tokens > kTileTokens; }

}  // namespace

CudaDevice::Input CudaDevice::prepare(const LinearInput& input,
                                      std::initializer_list<const PlacedMatrix*> matrices) {
  const int64_t k = (*matrices.begin())->k;
  bool floats = by_products(input.tokens), quants = false;
  for (const PlacedMatrix* matrix : matrices) {
    const bool reads_quants = !by_products(input.tokens) && wants_quants(matrix->dtype);
    (reads_quants ? quants : floats) = true;
  }
  Input prepared{.tokens = input.tokens, .k = k, .forms = input_scratch(input.tokens, k)};
  PrepareLaunch launch{.x = own(input.x),
                       .tokens = input.tokens,
                       .k = k,
                       .norm_weight = own(input.norm_weight),
                       .norm_eps = input.norm_eps,
                       .out = prepared.forms};
  if (floats && input.norm_weight == nullptr) {
    prepared.forms.x = const_cast<float*>(launch.x);  // they are what they will be: no launch
  } else if (floats) {
    cuda::prepare(launch, stream());
  }
  launch.quants = true;
  if (quants) cuda::prepare(launch, stream());
  return prepared;
}

/// Calls f(matrices, columns) over pieces of `columns`; streamed matrices are copied over for it.
template <class Function>
void CudaDevice::for_pieces(std::span<const CudaMatrix* const> matrices, Range columns,
                            bool products, const Function& f) {
  std::array<WeightMatrix, 2> here{}, streamed{}, fetched{};
  size_t count = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    here[i] = matrices[i]->packed;
    if (matrices[i]->home == Home::kStreamed) streamed[count++] = here[i];
  }
  const std::span<const WeightMatrix> sources(streamed.data(), count);
  int64_t step = products ? kProductColumns : columns.size();
  if (count > 0) step = std::min(step, columns_at_once(sources, columns.size()));
  if (step == 0 && !columns.empty())
    throw Error("weights: rows are too long to be streamed to a CUDA unit");
  for (int64_t begin = columns.begin; begin < columns.end; begin += step) {
    const Range piece{begin, std::min(begin + step, columns.end)};
    if (count > 0) copies_.fetch(sources, piece, stream(), fetched);
    for (size_t i = 0, next = 0; i < matrices.size(); ++i)
      if (matrices[i]->home == Home::kStreamed) here[i] = fetched[next++];
    f(std::span<const WeightMatrix>(here), piece);
    if (count > 0) copies_.release(stream());
  }
}

/// y[t][c - columns.begin] = x[t] . column c, by whichever way suits the tokens.
void CudaDevice::product(const WeightMatrix& weights, Range columns, const Input& input, float* y,
                         int64_t y_stride) {
  if (!by_products(input.tokens)) {
    cuda::linear({.weights = weights,
                  .input = input.forms,
                  .tokens = input.tokens,
                  .columns = columns,
                  .y = y - columns.begin,
                  .y_stride = y_stride},
                 stream());
    return;
  }
  std::byte* scratch = grow(prefill_, prefill_scratch_bytes(input.tokens, input.k, columns.size()));
  cuda::prefill({.blas = blas(),
                 .weights = weights,
                 .x = input.forms.x,
                 .tokens = input.tokens,
                 .columns = columns,
                 .y = y,
                 .y_stride = y_stride,
                 .scratch = scratch},
                stream());
}

void CudaDevice::linear_piece(const LinearLaunch& launch, const Input& input) {
  if (!by_products(input.tokens)) return cuda::linear(launch, stream());
  const int64_t width = launch.columns.size();
  float* products = grow_floats(products_, input.tokens * width);
  product(launch.weights, launch.columns, input, products, width);
  finish_linear(products, width, launch, stream());
}

void CudaDevice::linear(const LinearArgs& args) {
  on_device([&] {
    const Input input = prepare(args.input, {args.weights});
    LinearLaunch launch{.weights = {},
                        .input = input.forms,
                        .tokens = input.tokens,
                        .columns = {},
                        .y = own(args.y),
                        .shared = published(args.y, args.publish),
                        .y_stride = args.y_stride,
                        .add = args.add};
    for_pieces(std::array{cuda_matrix(args.weights)}, args.columns, by_products(input.tokens),
               [&](std::span<const WeightMatrix> weights, Range columns) {
                 launch.weights = weights[0];
                 launch.columns = columns;
                 linear_piece(launch, input);
               });
  });
}

void CudaDevice::gate_up_piece(const GateUpLaunch& launch, const Input& input) {
  if (!by_products(input.tokens)) return cuda::gate_up(launch, stream());
  const int64_t width = launch.columns.size();
  float* gate = grow_floats(products_, 2 * input.tokens * width);
  float* up = gate + input.tokens * width;
  product(launch.gate, launch.columns, input, gate, width);
  product(launch.up, launch.columns, input, up, width);
  finish_gate_up(gate, up, launch, stream());
}

void CudaDevice::gate_up(const GateUpArgs& args) {
  on_device([&] {
    const Input input = prepare(args.input, {args.gate, args.up});
    GateUpLaunch launch{.gate = {},
                        .up = {},
                        .gate_input = input.forms,
                        .up_input = input.forms,
                        .tokens = input.tokens,
                        .columns = {},
                        .h = own(args.h),
                        .shared = published(args.h, args.publish),
                        .h_stride = args.h_stride};
    for_pieces(std::array{cuda_matrix(args.gate), cuda_matrix(args.up)}, args.columns,
               by_products(input.tokens),
               [&](std::span<const WeightMatrix> weights, Range columns) {
                 launch.gate = weights[0];
                 launch.up = weights[1];
                 launch.columns = columns;
                 gate_up_piece(launch, input);
               });
  });
}

/// Raw products of columns, wherever the weights wait: y[t][c - columns.begin].
void CudaDevice::multiply(const PlacedMatrix* weights, Range columns, const Input& input, float* y,
                          int64_t y_stride) {
  for_pieces(std::array{cuda_matrix(weights)}, columns, by_products(input.tokens),
             [&](std::span<const WeightMatrix> here, Range piece) {
               product(here[0], piece, input, y + (piece.begin - columns.begin), y_stride);
             });
}

/// The same of several matrices; few tokens over resident ones are one launch.
void CudaDevice::multiply_together(std::span<const Product> products, const Input& input,
                                   int64_t y_stride) {
  std::array<LinearLaunch, kMaxLinearsTogether> launches;
  bool together = !by_products(input.tokens);
  for (size_t i = 0; i < products.size(); ++i) {
    const CudaMatrix* matrix = cuda_matrix(products[i].weights);
    together = together && matrix->home == Home::kResident;
    launches[i] = {.weights = matrix->packed,
                   .input = input.forms,
                   .tokens = input.tokens,
                   .columns = products[i].columns,
                   .y = products[i].y - products[i].columns.begin,
                   .y_stride = y_stride};
  }
  if (together) return linear_together({launches.data(), products.size()}, stream());
  for (const Product& product : products)
    multiply(product.weights, product.columns, input, product.y, y_stride);
}

void CudaDevice::qkv(const QkvArgs& args) {
  on_device([&] {
    const Range heads = args.kv_heads;
    const auto columns_of = [&](int64_t per_head) {
      return Range{heads.begin * per_head, heads.end * per_head};
    };
    const Range queries = columns_of(args.group * args.head_dim), keys = columns_of(args.head_dim);
    const int64_t width = queries.size() + 2 * keys.size();
    const Input input = prepare(args.input, {args.wq, args.wk, args.wv});
    float* products = grow_floats(products_, input.tokens * width);
    multiply_together(
        std::array<Product, 3>{{{args.wq, queries, products},
                                {args.wk, keys, products + queries.size()},
                                {args.wv, keys, products + queries.size() + keys.size()}}},
        input, width);

    HeadsLaunch launch{.products = products,
                       .products_stride = width,
                       .args = args,
                       .past = value(args.past),
                       .shared_q = published(args.q, args.publish),
                       .shared_step = args.step};
    launch.args.bq = own(args.bq);
    launch.args.bk = own(args.bk);
    launch.args.bv = own(args.bv);
    launch.args.q_norm = own(args.q_norm);
    launch.args.k_norm = own(args.k_norm);
    launch.args.cos_sin = own(args.cos_sin);
    launch.args.q = own(args.q);
    launch.args.step = own(args.step);
    launch.shared_step.k = published(args.step.k, args.publish);
    launch.shared_step.v = published(args.step.v, args.publish);
    finish_heads(launch, stream());
  });
}

}  // namespace tandem::cuda
