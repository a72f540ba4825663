#include "cuda_test_data.h"
#include "kernels/cuda_arithmetic.h"

using namespace tandem;
using namespace tandem::cuda;

namespace {

/// Of one chunk, a few rows of chunks, whole rows and spans, up to more spans than there are sums
/// (a span is 4 KiB of a column), with and without a ragged end.
std::vector<int64_t> row_lengths(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {1, 3, 4, 32, 77, 128, 1024, 1030, 5300};
    case DType::kF16:
    case DType::kBF16:
      return {1, 7, 8, 12, 64, 256, 1000, 4096, 10500};
    case DType::kQ8_0:
      return {32, 64, 96, 160, 512, 4096, 4128, 20512};
    case DType::kQ4_0:
      return {32, 64, 96, 160, 1024, 8192, 8224, 41024};
    // One template for all others: the long rows of one whose chunks are 32 elements, and of one
    // whose are 64.
    case DType::kQ5_1:
      return {32, 96, 1056, 41024};
    case DType::kQ3_K:
      return {256, 2304, 82176};
    default:
      break;
  }
  if (info(dtype).block_size == 32) return {32, 96, 1056};
  return {256, 2304};
}

/// A short and a long one of them, and a ragged one.
std::vector<int64_t> few_row_lengths(DType dtype) {
  const std::vector<int64_t> all = row_lengths(dtype);
  if (!is_common(dtype)) return {all[1], all.back()};
  return {all[2], all[4], all.back()};
}

/// Numbers of tokens of which a dtype's kernels differ in shape, the last of them in part.
std::vector<int64_t> token_counts(DType dtype) {
  if (!is_common(dtype)) return {1, 3, 16};
  return {1, 2, 3, 8, 16};
}

/// A matrix of 35 columns and the input of up to 16 tokens.
struct CudaLinearCase {
  CudaLinearCase(DType weights_dtype, int64_t row_length, Values values = Values::kRandom)
      : dtype(weights_dtype),
        k(row_length),
        weights(make_matrix(dtype, kColumns, k, 1, values)),
        x(random_floats(16 * k, 2)) {}

  std::vector<float> run(Range resident, Range columns, int64_t first, int64_t tokens,
                         bool add = false) const {
    const DeviceMatrix matrix(weights, resident);
    const DeviceInput input(dtype, rows_of(x, k, first, tokens), tokens);
    const DeviceArray<float> y(
        std::vector<float>(static_cast<size_t>(tokens * kColumns), kUntouched));
    linear({.weights = matrix.matrix,
            .input = input.prepared(),
            .tokens = tokens,
            .columns = columns,
            .y = y.get(),
            .y_stride = kColumns,
            .add = add},
           nullptr);
    return y.read();
  }

  static constexpr int64_t kColumns = 35;
  DType dtype;
  int64_t k;
  TestMatrix weights;
  std::vector<float> x;
};

/// |y - exact| of sums of k products in float.
reference::Matrix sum_tolerance(const reference::Matrix& x, const reference::Matrix& w) {
  const auto k = static_cast<double>(x.cols());
  const reference::Matrix magnitudes = reference::linear(x.cwiseAbs(), w.cwiseAbs());
  return ((2 + std::sqrt(k)) * kUnitRoundoff * magnitudes.array() + 1e-37).matrix();
}

}  // namespace

TEST_CASE("a linear is the product of its prepared input, for every dtype and length") {
  for (const DTypeInfo& d : kDTypes)
    for (const int64_t k : row_lengths(d.dtype)) {
      const CudaLinearCase test(d.dtype, k);
      for (const int64_t tokens : token_counts(d.dtype)) {
        CAPTURE(d.name);
        CAPTURE(k);
        CAPTURE(tokens);
        const reference::Matrix x =
            DeviceInput(d.dtype, rows_of(test.x, k, 0, tokens), tokens).values();
        const std::vector<float> y = test.run({0, 35}, {0, 35}, 0, tokens);
        check_near(reference::from_floats(y.data(), tokens, 35),
                   reference::linear(x, test.weights.exact), sum_tolerance(x, test.weights.exact));
      }
    }
}

TEST_CASE("a linear of values of any size is within the tolerance of its dtype") {
  for (const DTypeInfo& d : kDTypes)
    for (const Values values : kAllValues) {
      CAPTURE(d.name);
      const CudaLinearCase test(d.dtype, 256, values);
      const reference::Matrix exact =
          reference::linear(reference::from_floats(test.x.data(), 16, 256), test.weights.exact);
      check_near(test.run({0, 35}, {0, 35}, 0, 16), exact, wants_quants(d.dtype) ? 2e-2 : 1e-5);
    }
}

TEST_CASE("columns are the same bits alone, whatever lies beside them") {
  for (const DTypeInfo& d : kDTypes)
    for (const int64_t k : few_row_lengths(d.dtype)) {
      const CudaLinearCase test(d.dtype, k);
      for (const int64_t tokens : {1, 2, 5}) {
        CAPTURE(d.name);
        CAPTURE(k);
        CAPTURE(tokens);
        const std::vector<float> whole = test.run({0, 35}, {0, 35}, 0, tokens);
        for (const Range columns : {Range{0, 16}, Range{32, 35}, Range{16, 35}}) {
          CAPTURE(columns.begin);
          const std::vector<float> part = test.run(columns, columns, 0, tokens);
          CHECK(differing_in(part, whole, 35, 0, columns, kUntouched) == 0);
          const std::vector<float> of_all = test.run({0, 35}, columns, 0, tokens);
          CHECK(differing_in(of_all, whole, 35, 0, columns, kUntouched) == 0);
        }
      }
    }
}

TEST_CASE("a token is the same bits alone, whatever tokens are beside it") {
  for (const DTypeInfo& d : kDTypes)
    for (const int64_t k : few_row_lengths(d.dtype)) {
      CAPTURE(d.name);
      CAPTURE(k);
      const CudaLinearCase test(d.dtype, k);
      const std::vector<float> whole = test.run({0, 35}, {0, 35}, 0, 16);
      for (const int64_t tokens : {1, 2, 3, 4, 5, 8, 9, 15}) {
        if (!is_common(d.dtype) && tokens % 4 != 1) continue;
        CAPTURE(tokens);
        const int64_t first = 16 - tokens;
        const std::vector<float> part = test.run({0, 35}, {0, 35}, first, tokens);
        CHECK(differing_in(part, whole, 35, first, {0, 35}, kUntouched) == 0);
      }
    }
}

TEST_CASE("an infinite input spoils no more of a lone token than of one among others") {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    CAPTURE(name(dtype));
    CudaLinearCase test(dtype, 64);  // fewer chunks than lanes
    test.x[15 * 64] = INFINITY;      // of the last token
    const std::vector<float> whole = test.run({0, 35}, {0, 35}, 0, 16);
    CHECK(std::isinf(whole[15 * 35]));
    for (const int64_t tokens : {1, 2, 4}) {
      CAPTURE(tokens);
      const std::vector<float> part = test.run({0, 35}, {0, 35}, 16 - tokens, tokens);
      CHECK(differing_in(part, whole, 35, 16 - tokens, {0, 35}, kUntouched) == 0);
    }
  }
}

TEST_CASE("rows of floats may begin anywhere: the same bits") {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t tokens : {1, 6}) {
      CAPTURE(name(dtype));
      CAPTURE(tokens);
      const CudaLinearCase test(dtype, 1000);
      std::vector<float> shifted = rows_of(test.x, 1000, 0, tokens);
      shifted.insert(shifted.begin(), 1);
      const DeviceMatrix matrix(test.weights, {0, 35});
      const DeviceArray<float> x(shifted);
      const DeviceArray<float> y(tokens * 35);
      linear({.weights = matrix.matrix,
              .input = {.x = x.get() + 1},
              .tokens = tokens,
              .columns = {0, 35},
              .y = y.get(),
              .y_stride = 35},
             nullptr);
      CHECK(differing(y.read(), test.run({0, 35}, {0, 35}, 0, tokens)) == 0);
    }
}

TEST_CASE("many columns, which blocks of another shape do, are the same bits") {
  for (const DTypeInfo& d : kCommonDTypes) {
    CAPTURE(d.name);
    const int64_t k = 64, many = 2200;
    const TestMatrix weights = make_matrix(d.dtype, many, k, 1);
    const std::vector<float> x = random_floats(k, 2);
    const DeviceMatrix matrix(weights, {0, many});
    const DeviceInput input(d.dtype, x, 1);
    const DeviceArray<float> y(std::vector<float>(static_cast<size_t>(many), kUntouched));
    LinearLaunch launch{.weights = matrix.matrix,
                        .input = input.prepared(),
                        .tokens = 1,
                        .columns = {0, many},
                        .y = y.get(),
                        .y_stride = many};
    linear(launch, nullptr);
    const std::vector<float> whole = y.read();
    check_near(whole, reference::linear(input.values(), weights.exact), 1e-5);
    launch.columns = {1600, 1648};
    launch.add = true;
    linear(launch, nullptr);
    std::vector<float> twice = whole;
    for (size_t i = 1600; i < 1648; ++i) twice[i] += whole[i];
    CHECK(differing(y.read(), twice) == 0);
  }
}

TEST_CASE("products are added to y, and shared is what y is then") {
  for (const int64_t tokens : {1, 7}) {
    CAPTURE(tokens);
    const CudaLinearCase test(DType::kQ8_0, 64);
    const DeviceMatrix matrix(test.weights, {0, 35});
    const DeviceInput input(test.dtype, rows_of(test.x, 64, 0, tokens), tokens);
    const std::vector<float> before = random_floats(tokens * 35, 5);
    const DeviceArray<float> y(before);
    const DeviceArray<float> shared(std::vector<float>(before.size(), kUntouched));
    linear({.weights = matrix.matrix,
            .input = input.prepared(),
            .tokens = tokens,
            .columns = {16, 32},
            .y = y.get(),
            .shared = shared.get(),
            .y_stride = 35,
            .add = true},
           nullptr);
    const std::vector<float> products = test.run({0, 35}, {0, 35}, 0, tokens);
    std::vector<float> expected = before;
    for (size_t i = 0; i < expected.size(); ++i)
      if (i % 35 >= 16 && i % 35 < 32) expected[i] += products[i];
    CHECK(differing(y.read(), expected) == 0);
    CHECK(differing_in(shared.read(), expected, 35, 0, {16, 32}, kUntouched) == 0);
  }
}

TEST_CASE("linears of one input are the same bits in one launch, of one dtype or several") {
  for (const DType last : {DType::kQ4_0, DType::kQ8_0, DType::kF16}) {
    CAPTURE(name(last));
    const CudaLinearCase test(DType::kQ4_0, 96), other(last, 96);
    const DeviceMatrix matrix(test.weights, {0, 35}), third(other.weights, {0, 35});
    const DeviceInput quants(DType::kQ4_0, rows_of(test.x, 96, 0, 2), 2);
    const DeviceInput floats(DType::kF16, rows_of(test.x, 96, 0, 2), 2);
    Prepared input = quants.prepared();
    input.x = floats.prepared().x;
    const DeviceArray<float> y(std::vector<float>(2 * 108, kUntouched));
    LinearLaunch launches[3];
    const Range columns[] = {{16, 35}, {0, 16}, {16, 32}};
    for (size_t i = 0; i < 3; ++i)
      launches[i] = {.weights = i < 2 ? matrix.matrix : third.matrix,
                     .input = input,
                     .tokens = 2,
                     .columns = columns[i],
                     .y = y.get() + 35 * i,
                     .y_stride = 108};
    linear_together(launches, nullptr);
    const std::vector<float> all = y.read();
    for (size_t i = 0; i < 3; ++i) {
      const CudaLinearCase& one = i < 2 ? test : other;
      const std::vector<float> alone = one.run({0, 35}, columns[i], 0, 2);
      for (size_t t = 0; t < 2; ++t) {
        const auto row = all.begin() + static_cast<int64_t>(t * 108 + i * 35);
        CHECK(std::equal(row, row + 35, alone.begin() + static_cast<int64_t>(t * 35)));
      }
    }
  }
}

namespace {

void check_gate_up(const CudaLinearCase& gate, const CudaLinearCase& up, int64_t tokens) {
  const DeviceMatrix gates(gate.weights, {0, 35}), ups(up.weights, {0, 35});
  const DeviceInput gate_input(gate.dtype, rows_of(gate.x, gate.k, 0, tokens), tokens);
  const DeviceInput up_input(up.dtype, rows_of(gate.x, gate.k, 0, tokens), tokens);
  const bool same = gate.dtype == up.dtype;
  const std::vector<float> untouched(static_cast<size_t>(tokens * 35), kUntouched);
  const DeviceArray<float> h(untouched), shared(untouched);
  gate_up({.gate = gates.matrix,
           .up = ups.matrix,
           .gate_input = gate_input.prepared(),
           .up_input = same ? gate_input.prepared() : up_input.prepared(),
           .tokens = tokens,
           .columns = {16, 35},
           .h = h.get(),
           .shared = shared.get(),
           .h_stride = 35},
          nullptr);
  std::vector<float> expected = gate.run({0, 35}, {0, 35}, 0, tokens);
  const std::vector<float> ups_alone = up.run({0, 35}, {0, 35}, 0, tokens);
  for (size_t i = 0; i < expected.size(); ++i)
    expected[i] = swiglu<PortableOps>(expected[i], ups_alone[i]);
  // The emulation's e^x is the host's; a GPU's may differ in the last bits.
  const std::vector<float> actual = h.read();
  int64_t wrong = 0;
  for (size_t i = 0; i < actual.size(); ++i)
    wrong += i % 35 < 16 ? actual[i] != kUntouched
                         : !(std::abs(actual[i] - expected[i]) <= 1e-6f * std::abs(expected[i]));
  CHECK(wrong == 0);
  CHECK(differing(shared.read(), actual) == 0);
}

}  // namespace

TEST_CASE("gate and up end as SwiGLU, of one dtype or two, in the columns asked for") {
  struct Pair {
    DType gate, up;
  };
  for (const Pair pair : {Pair{DType::kF32, DType::kF32}, Pair{DType::kF16, DType::kF16},
                          Pair{DType::kBF16, DType::kBF16}, Pair{DType::kQ8_0, DType::kQ8_0},
                          Pair{DType::kQ4_0, DType::kQ4_0}, Pair{DType::kQ4_0, DType::kQ8_0},
                          Pair{DType::kF16, DType::kQ8_0}, Pair{DType::kQ4_K, DType::kQ4_K},
                          Pair{DType::kQ4_K, DType::kQ2_K}})
    for (const int64_t k : {64, 10240}) {
      if (k % info(pair.gate).block_size != 0) continue;
      const CudaLinearCase gate(pair.gate, k), up(pair.up, k, Values::kExtreme);
      for (const int64_t tokens : {1, 2, 3, 9}) {
        CAPTURE(name(pair.gate));
        CAPTURE(name(pair.up));
        CAPTURE(k);
        CAPTURE(tokens);
        check_gate_up(gate, up, tokens);
      }
    }
}
