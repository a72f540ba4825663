#include "tests/bench/gpu_kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/cuda_blas.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/half.h"
#include "kernels/reference.h"

namespace tandem::bench {
namespace {

constexpr int64_t kK = 4096;  // llama-3-8b's

int64_t at_least_two(int64_t rotated_bytes, int64_t bytes) {
  return std::max<int64_t>(2, div_up(rotated_bytes, bytes));
}

/// A few columns of y = W x against the reference, to 8 bits: Q8 inputs have no more.
void check_linear(const MatrixSource& source, std::span<const float> x, std::span<const float> y) {
  const reference::Matrix input = reference::from_floats(x.data(), 1, source.k);
  const int64_t row = row_bytes(source.dtype, source.k);
  for (int64_t c = 0; c < source.columns; c += std::max<int64_t>(1, source.columns / 7)) {
    const reference::Matrix weights =
        reference::dequantize_row(source.dtype, source.rows + c * row, source.k);
    const double exact = reference::linear(input, weights)(0, 0);
    const double scale = reference::linear(input.cwiseAbs(), weights.cwiseAbs())(0, 0);
    const double actual = y[static_cast<size_t>(c)];
    if (!(std::abs(actual - exact) <= 1e-2 * scale))
      throw Error(fmt::format("{} linear: column {} is {} instead of {}", name(source.dtype), c,
                              actual, exact));
  }
}

/// A device's memory full of finite halves.
std::shared_ptr<std::byte[]> finite_memory(Device& device, int64_t bytes) {
  auto memory = device.allocate(bytes);
  std::vector<std::byte> piece(static_cast<size_t>(std::min<int64_t>(bytes, 16 << 20)));
  fill_finite(piece);
  for (int64_t at = 0; at < bytes; at += std::ssize(piece))
    device.write(memory.get() + at, piece.data(), std::min(std::ssize(piece), bytes - at));
  return memory;
}

}  // namespace

double copy_bytes_per_s(const GpuTimer& gpu, int64_t bytes, int runs) {
  constexpr int kCopies = 8;
  const auto from = gpu.device().allocate(bytes), to = gpu.device().allocate(bytes);
  const double seconds = gpu.stream_s(
      [&](cudaStream_t stream) {
        for (int i = 0; i < kCopies; ++i)
          TANDEM_CUDA_CHECK(cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(bytes),
                                            cudaMemcpyDeviceToDevice, stream));
      },
      runs);
  return 2.0 * kCopies * static_cast<double>(bytes) / seconds;
}

double linear_bytes_per_s(GpuTimer& gpu, DType dtype, int64_t bytes, int64_t rotated_bytes,
                          int runs) {
  Device& device = gpu.device();
  const int64_t row = row_bytes(dtype, kK);
  const int64_t columns = round_up(div_up(bytes, row), kColumnAlign);
  std::vector<std::byte> rows(static_cast<size_t>(columns * row));
  fill_finite(rows);
  const MatrixSource source{.dtype = dtype, .columns = columns, .k = kK, .rows = rows.data()};
  std::vector<std::shared_ptr<const PlacedMatrix>> matrices;
  for (int64_t i = 0; i < at_least_two(rotated_bytes, columns * row); ++i)
    matrices.push_back(device.place(source, {0, columns}));
  const auto x = gpu.exchanged().take<float>(kK), y = gpu.exchanged().take<float>(columns);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  const Block input{.data = reinterpret_cast<std::byte*>(x.data()),
                    .rows = 1,
                    .bytes = static_cast<int64_t>(x.size_bytes()),
                    .stride = 0};
  const auto multiply = [&](const PlacedMatrix& matrix, bool publish) {
    device.linear({.input = {.x = x.data(), .tokens = 1},
                   .weights = &matrix,
                   .columns = {0, columns},
                   .y = y.data(),
                   .y_stride = columns,
                   .publish = publish});
  };
  device.begin_step();
  device.receive(input);
  multiply(*matrices.back(), true);
  device.launch();
  device.end_step();
  check_linear(source, x, y);
  const double seconds = gpu.step_s(
      [&] {
        for (const auto& matrix : matrices) multiply(*matrix, false);
      },
      runs);
  return static_cast<double>(std::ssize(matrices) * columns * row) / seconds;
}

double attention_bytes_per_s(GpuTimer& gpu, int64_t context, int64_t rotated_bytes, int runs) {
  constexpr int64_t kHeads = 8, kGroup = 4, kHeadDim = 128, kQ = kHeads * kGroup * kHeadDim;
  Device& device = gpu.device();
  KvView view{.dtype = DType::kF16,
              .kv_heads = {0, kHeads},
              .positions = {0, round_up(context, kAttentionChunk)},
              .head_dim = kHeadDim};
  const int64_t k_bytes = kHeads * view.k_head_bytes(), v_bytes = kHeads * view.v_head_bytes();
  // Whatever the keys say, a mean of ones is one.
  std::vector<uint16_t> ones(static_cast<size_t>(v_bytes / 2), f32_to_f16(1));
  std::vector<std::shared_ptr<std::byte[]>> memory;
  std::vector<KvView> caches;
  for (int64_t i = 0; i < at_least_two(rotated_bytes, k_bytes + v_bytes); ++i) {
    view.k = memory.emplace_back(finite_memory(device, k_bytes)).get();
    view.v = memory.emplace_back(device.allocate(v_bytes)).get();
    device.write(view.v, reinterpret_cast<const std::byte*>(ones.data()), v_bytes);
    caches.push_back(view);
  }
  const auto q = gpu.exchanged().take<float>(kQ), out = gpu.exchanged().take<float>(kQ);
  const auto attend = [&](const KvView& cache, bool publish) {
    device.attention({.tokens = 1,
                      .past = context,
                      .kv_heads = {0, kHeads},
                      .group = kGroup,
                      .head_dim = kHeadDim,
                      .scale = 0.1f,
                      .q = q.data(),
                      .q_stride = kQ,
                      .cache = cache,
                      .context = {0, context},
                      .step = {},
                      .out = out.data(),
                      .publish = publish});
  };
  device.begin_step();
  attend(caches.back(), true);
  device.launch();
  device.end_step();
  for (const float value : out)
    if (!(std::abs(value - 1) <= 1e-3f))
      throw Error(fmt::format("attention at context {}: {} instead of 1", context, value));
  const double seconds = gpu.step_s(
      [&] {
        for (const KvView& cache : caches) attend(cache, false);
      },
      runs);
  const int64_t bytes = 2 * kHeads * context * kHeadDim * 2;
  return static_cast<double>(std::ssize(caches) * bytes) / seconds;
}

double exchange_s(GpuTimer& gpu, int64_t hidden_size, int runs) {
  constexpr int64_t kTurns = 100;
  Device& device = gpu.device();
  const auto to_unit = gpu.exchanged().take<Flag>(kTurns);
  const auto to_host = gpu.exchanged().take<Flag>(kTurns);
  const auto x = gpu.exchanged().take<float>(hidden_size);
  const Block block{.data = reinterpret_cast<std::byte*>(x.data()),
                    .rows = 1,
                    .bytes = static_cast<int64_t>(x.size_bytes()),
                    .stride = 0};
  const auto unit = [&] {
    for (int64_t turn = 0; turn < kTurns; ++turn) {
      device.wait(to_unit[static_cast<size_t>(turn)]);
      device.receive(block);
      device.raise(to_host[static_cast<size_t>(turn)]);
    }
  };
  const auto host = [&] {
    for (int64_t turn = 0; turn < kTurns; ++turn) {
      to_unit[static_cast<size_t>(turn)].raise();
      while (!to_host[static_cast<size_t>(turn)].take()) relax(true);
    }
  };
  return gpu.step_s(unit, runs, host) / (2 * kTurns);
}

double products_s(const GpuTimer& gpu, const ModelSpec& model, int64_t tokens, int runs) {
  const std::unique_ptr<cuda::Blas, void (*)(cuda::Blas*)> blas(cuda::open_blas(),
                                                                cuda::close_blas);
  if (blas == nullptr) return 0;
  struct Shape {
    int64_t columns, k;
  };
  const int64_t hidden = model.hidden_size, inner = model.intermediate_size, q = model.q_size();
  const int64_t kv = model.num_kv_heads * model.head_dim;
  const std::array<Shape, 7> shapes{{{q, hidden},
                                     {kv, hidden},
                                     {kv, hidden},
                                     {hidden, q},
                                     {inner, hidden},
                                     {inner, hidden},
                                     {hidden, inner}}};
  int64_t weights = 0;
  for (const Shape& shape : shapes) weights += 2 * round_up(shape.columns * shape.k, 128);
  const int64_t longest = std::max({hidden, inner, q});
  Device& device = gpu.device();
  const auto w = finite_memory(device, weights);
  const auto x = finite_memory(device, 2 * tokens * longest);
  const auto y = device.allocate(4 * tokens * longest);
  const auto workspace = device.allocate(cuda::kBlasWorkspaceBytes);
  const double layer_s = gpu.stream_s(
      [&](cudaStream_t stream) {
        const std::byte* at = w.get();
        for (const Shape& shape : shapes) {
          const cuda::Product product{.type = CUDA_R_16BF,
                                      .columns = shape.columns,
                                      .tokens = tokens,
                                      .k = shape.k,
                                      .w = at,
                                      .w_stride = shape.k,
                                      .x = x.get(),
                                      .x_stride = shape.k,
                                      .y = reinterpret_cast<float*>(y.get()),
                                      .y_stride = shape.columns,
                                      .workspace = workspace.get()};
          if (!cuda::multiply(*blas, product, stream))
            throw Error(fmt::format("cuBLAS has no product of {} x {}", shape.columns, shape.k));
          at += 2 * round_up(shape.columns * shape.k, 128);
        }
      },
      runs);
  return static_cast<double>(model.num_layers) * layer_s;
}

}  // namespace tandem::bench
