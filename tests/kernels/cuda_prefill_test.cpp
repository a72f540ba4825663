#include "cuda_test_data.h"
#include "kernels/cuda_arithmetic.h"

using namespace tandem;
using namespace tandem::cuda;

namespace {

struct CloseBlas {
  void operator()(Blas* blas) const { close_blas(blas); }
};
using OwnedBlas = std::unique_ptr<Blas, CloseBlas>;

/// Rounding of weights and inputs to the type that is multiplied, on the scale of the largest
/// product of rows.
double product_tolerance(DType dtype, bool with_blas) {
  if (!with_blas) return wants_quants(dtype) ? 2e-2 : 1e-5;
  if (dtype == DType::kF32) return 1e-5;
  return dtype == DType::kBF16 ? 0x1p-7 : 0x1p-10;
}

/// y = x w of columns [16, 52) of 60, into rows of 50.
std::vector<float> prefill_columns(Blas* blas, const TestMatrix& weights,
                                   const std::vector<float>& x, int64_t tokens) {
  const Range columns{16, 52};
  const int64_t k = weights.exact.cols();
  const DeviceMatrix matrix(weights, {0, 60});  // whose first columns are skipped
  const DeviceArray<float> input(x), y(std::vector<float>(static_cast<size_t>(tokens * 50), 7));
  const DeviceArray<std::byte> scratch(prefill_scratch_bytes(tokens, k, columns.size()));
  prefill({.blas = blas,
           .weights = matrix.matrix,
           .x = input.get(),
           .tokens = tokens,
           .columns = columns,
           .y = y.get(),
           .y_stride = 50,
           .scratch = scratch.get()},
          nullptr);
  return y.read();
}

}  // namespace

TEST_CASE("many tokens are multiplied with the library and without it") {
  const OwnedBlas blas(open_blas());
  if (blas == nullptr) MESSAGE("no cuBLASLt here: only products without it are tested");
  for (const DTypeInfo& d : kDTypes)
    for (const int64_t k : {32, 96, 13, 4, 256}) {
      if (k % d.block_size != 0 || (k == 256 && d.block_size != 256)) continue;
      for (const int64_t tokens : {17, 40})
        for (const bool with_blas : {false, true}) {
          CAPTURE(d.name);
          CAPTURE(k);
          CAPTURE(tokens);
          CAPTURE(with_blas);
          if (with_blas && blas == nullptr) continue;
          const TestMatrix weights = make_matrix(d.dtype, 60, k, 1);
          const std::vector<float> x = random_floats(tokens * k, 2);
          const std::vector<float> y =
              prefill_columns(with_blas ? blas.get() : nullptr, weights, x, tokens);
          const reference::Matrix exact = reference::linear(
              reference::from_floats(x.data(), tokens, k), weights.exact.middleRows(16, 36));
          std::vector<float> products;
          int64_t touched = 0;
          for (size_t i = 0; i < y.size(); ++i) {
            if (i % 50 < 36) products.push_back(y[i]);
            if (i % 50 >= 36) touched += y[i] != kUntouched;
          }
          check_near(products, exact, product_tolerance(d.dtype, with_blas));
          CHECK(touched == 0);
        }
    }
}

TEST_CASE("without the library tokens are the same bits as sixteen at a time") {
  for (const DType dtype : {DType::kF16, DType::kQ4_0, DType::kQ5_1}) {
    CAPTURE(name(dtype));
    const TestMatrix weights = make_matrix(dtype, 60, 96, 1);
    const std::vector<float> x = random_floats(37 * 96, 2);
    const std::vector<float> whole = prefill_columns(nullptr, weights, x, 37);
    const DeviceMatrix matrix(weights, {0, 60});
    const DeviceInput input(dtype, rows_of(x, 96, 32, 5), 5);
    const DeviceArray<float> y(std::vector<float>(5 * 60, kUntouched));
    linear({.weights = matrix.matrix,
            .input = input.prepared(),
            .tokens = 5,
            .columns = {16, 52},
            .y = y.get(),
            .y_stride = 60},
           nullptr);
    const std::vector<float> last = y.read();
    for (size_t t = 0; t < 5; ++t)
      for (size_t c = 0; c < 36; ++c)
        CHECK(float_bits(last[t * 60 + 16 + c]) == float_bits(whole[(32 + t) * 50 + c]));
  }
}

TEST_CASE("inputs beyond the largest half count as that, not as infinity") {
  const OwnedBlas blas(open_blas());
  if (blas == nullptr) return;
  const TestMatrix weights = make_matrix(DType::kF16, 60, 32, 1);
  std::vector<float> x(17 * 32);
  x[5] = 1e6f;
  const std::vector<float> y = prefill_columns(blas.get(), weights, x, 17);
  reference::Matrix exact = reference::Matrix::Zero(1, 36);
  exact.row(0) = 65504 * weights.exact.col(5).segment(16, 36).transpose();
  check_near(reference::from_floats(y.data(), 1, 36), exact,
             1e-3 * exact.cwiseAbs().array().max(1e-3).matrix());
}

TEST_CASE("products that do not fit in scratch go in pieces of tokens and of columns") {
  // Rows of half a MiB of halves: 32 tokens and 64 columns at a time.
  const OwnedBlas blas(open_blas());
  if (blas == nullptr) return;
  const int64_t k = 262144, tokens = 33, columns = 66;
  const TestMatrix weights{
      .bytes = std::vector<std::byte>(static_cast<size_t>(columns * row_bytes(DType::kQ8_0, k))),
      .dtype = DType::kQ8_0,
      .exact = reference::Matrix(columns, k)};
  // Column c is c + 1 at element c and zero elsewhere, token t is t + 1 everywhere.
  std::vector<std::byte> bytes = weights.bytes;
  for (int64_t c = 0; c < columns; ++c) {
    std::byte* block = bytes.data() + c * row_bytes(DType::kQ8_0, k) + c / 32 * 34;
    const uint16_t one = f32_to_f16(1);
    std::memcpy(block, &one, sizeof one);
    block[2 + c % 32] = static_cast<std::byte>(c + 1);
  }
  const MatrixSource source{
      .dtype = DType::kQ8_0, .columns = columns, .k = k, .rows = bytes.data()};
  std::vector<std::byte> packed(static_cast<size_t>(matrix_bytes(DType::kQ8_0, columns, k)));
  pack_columns(source, {0, columns}, packed.data());
  std::vector<float> x(static_cast<size_t>(tokens * k));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i / static_cast<size_t>(k) + 1);
  const DeviceArray<std::byte> matrix(packed), scratch(prefill_scratch_bytes(tokens, k, columns));
  const DeviceArray<float> input(x), y(tokens * columns);
  prefill({.blas = blas.get(),
           .weights = matrix_at(matrix.get(), DType::kQ8_0, {0, columns}, k),
           .x = input.get(),
           .tokens = tokens,
           .columns = {0, columns},
           .y = y.get(),
           .y_stride = columns,
           .scratch = scratch.get()},
          nullptr);
  const std::vector<float> products = y.read();
  int64_t wrong = 0;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < columns; ++c)
      wrong +=
          products[static_cast<size_t>(t * columns + c)] != static_cast<float>((t + 1) * (c + 1));
  CHECK(wrong == 0);
}

TEST_CASE("scratch is at most 64 MiB, and what is enough for a step is enough for a smaller one") {
  CHECK(prefill_scratch_bytes(4096, 28672, 16384) <= 64 << 20);
  int64_t last = 0;
  for (int64_t i = 1; i < 400; ++i) {
    const int64_t bytes = prefill_scratch_bytes(7 * i, 32 * (60 + i), 50 * i);
    CHECK(bytes >= last);
    last = bytes;
  }
}

TEST_CASE("products are finished: added, or through SwiGLU, and shared") {
  const int64_t tokens = 19, width = 36, stride = 60;
  const Range columns{16, 52};
  const std::vector<float> a = random_floats(tokens * width, 1);
  const std::vector<float> b = random_floats(tokens * width, 2);
  const std::vector<float> before = random_floats(tokens * stride, 3);
  const DeviceArray<float> products(a), ups(b);
  for (const bool add : {false, true})
    for (const bool gate : {false, true}) {
      if (add && gate) continue;
      CAPTURE(add);
      CAPTURE(gate);
      const DeviceArray<float> y(before);
      const DeviceArray<float> shared(std::vector<float>(before.size(), kUntouched));
      if (gate) {
        GateUpLaunch launch;
        launch.tokens = tokens;
        launch.columns = columns;
        launch.h = y.get();
        launch.shared = shared.get();
        launch.h_stride = stride;
        finish_gate_up(products.get(), ups.get(), launch, nullptr);
      } else {
        LinearLaunch launch;
        launch.tokens = tokens;
        launch.columns = columns;
        launch.y = y.get();
        launch.shared = shared.get();
        launch.y_stride = stride;
        launch.add = add;
        finish_linear(products.get(), width, launch, nullptr);
      }
      std::vector<float> expected = before;
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t i = 0; i < width; ++i) {
          const auto from = static_cast<size_t>(t * width + i);
          float& to = expected[static_cast<size_t>(t * stride + columns.begin + i)];
          to = gate ? swiglu<PortableOps>(a[from], b[from]) : a[from] + (add ? to : 0);
        }
      const std::vector<float> actual = y.read();
      check_near(actual, reference::from_floats(expected.data(), tokens, stride), 1e-6);
      CHECK(differing_in(shared.read(), actual, stride, 0, columns, kUntouched) == 0);
    }
}
