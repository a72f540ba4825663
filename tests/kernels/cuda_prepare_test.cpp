#include "cuda_test_data.h"
#include "kernels/cuda_arithmetic.h"

using namespace tandem;
using namespace tandem::cuda;

namespace {

/// 5 rows with a norm, or without one.
struct PrepareCase {
  PrepareCase(int64_t row_length, bool with_norm)
      : k(row_length),
        x(random_floats(5 * k, 1, 3)),
        norm(with_norm ? random_floats(k, 2) : std::vector<float>{}) {
    exact = reference::from_floats(x.data(), 5, k);
    if (with_norm) exact = reference::rms_norm(exact, norm, 1e-5);
  }
  int64_t k;
  std::vector<float> x, norm;
  reference::Matrix exact;
};

}  // namespace

TEST_CASE("rows are normed, or as they were, whatever their length") {
  for (const int64_t k : {1, 3, 4, 31, 64, 130, 4096, 4100, 9000})
    for (const bool with_norm : {false, true}) {
      CAPTURE(k);
      CAPTURE(with_norm);
      const PrepareCase test(k, with_norm);
      const DeviceInput input(DType::kF32, test.x, 5, test.norm, 1e-5f);
      const reference::Matrix actual = input.values();
      if (!with_norm) CHECK(actual == test.exact);
      check_near(actual, test.exact, 1e-6 * (test.exact.cwiseAbs().array() + 1e-3).matrix());
    }
}

TEST_CASE("blocks of 32 are quantised by the rule of the CPU units") {
  for (const int64_t k : {32, 64, 96, 160, 4096, 4128}) {
    CAPTURE(k);
    const PrepareCase test(k, false);
    const DeviceInput input(DType::kQ8_0, test.x, 5);
    const reference::Matrix actual = input.values();
    int64_t wrong = 0;
    for (int64_t block = 0; block < 5 * k / 32; ++block) {
      float top = 0;
      for (int64_t i = 0; i < 32; ++i)
        top = std::max(top, std::abs(test.x[static_cast<size_t>(32 * block + i)]));
      for (int64_t i = 32 * block; i < 32 * block + 32; ++i) {
        const int32_t q = quantize(test.x[static_cast<size_t>(i)], quant_inverse(top));
        wrong += actual(i / k, i % k) != double{quant_scale(top)} * q;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("quants of normed rows are within half a step") {
  for (const int64_t k : {32, 96, 4096}) {
    CAPTURE(k);
    const PrepareCase test(k, true);
    const DeviceInput input(DType::kQ4_0, test.x, 5, test.norm, 1e-5f);
    reference::Matrix step(5, k);
    for (int64_t t = 0; t < 5; ++t)
      for (int64_t i = 0; i < k; i += 32)
        step.row(t).segment(i, 32).setConstant(
            test.exact.row(t).segment(i, 32).cwiseAbs().maxCoeff() / 127);
    check_near(input.values(), test.exact, 0.501 * step);
  }
}

TEST_CASE("a block of zeros has the scale zero") {
  const DeviceInput input(DType::kQ8_0, std::vector<float>(64), 1);
  CHECK(input.values() == reference::Matrix::Zero(1, 64));
}
