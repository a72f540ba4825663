#include "kernels/reference.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <numbers>
#include <vector>

using namespace tandem;
using reference::Matrix;

namespace {

Matrix matrix(int64_t columns, std::vector<double> values) {
  const auto rows = static_cast<int64_t>(values.size()) / columns;
  return Eigen::Map<const Matrix>(values.data(), rows, columns);
}

bool near(const Matrix& a, const Matrix& b) { return (a - b).cwiseAbs().maxCoeff() < 1e-12; }

}  // namespace

TEST_CASE("a q4_0 byte holds element i below element i + 16, offset by 8") {
  std::array<std::byte, 18> row{};
  row[0] = std::byte{0x00};
  row[1] = std::byte{0x38};  // 0x3800 = 0.5
  row[2] = std::byte{0xf1};  // element 0: 1 - 8 = -7; element 16: 15 - 8 = 7
  const Matrix values = reference::dequantize_row(DType::kQ4_0, row.data(), 32);
  CHECK(values(0, 0) == -3.5);
  CHECK(values(0, 16) == 3.5);
  CHECK(values(0, 1) == -4);  // 0 - 8
}

TEST_CASE("a q8_0 byte is a signed multiple of the block's scale") {
  std::array<std::byte, 34> row{};
  row[1] = std::byte{0x38};  // 0.5
  row[2] = std::byte{0x80};  // -128
  row[33] = std::byte{127};
  const Matrix values = reference::dequantize_row(DType::kQ8_0, row.data(), 32);
  CHECK(values(0, 0) == -64);
  CHECK(values(0, 31) == 63.5);
}

TEST_CASE("an embedding row is the token's") {
  const std::vector<float> table{1, 2, 3, 4, 5, 6};
  const MatrixSource source{
      .columns = 3, .k = 2, .rows = reinterpret_cast<const std::byte*>(table.data())};
  const std::vector<int32_t> ids{2, 0};
  CHECK(near(reference::embed(source, ids), matrix(2, {5, 6, 1, 2})));
}

TEST_CASE("a norm divides by the root of the mean square of its group") {
  const std::vector<float> weight{1, 10};
  // Group (1, 7): mean square 25; group (3, 4) with eps: 12.5.
  const Matrix out = reference::rms_norm(matrix(4, {1, 7, 3, 4}), weight, 0);
  CHECK(near(out, matrix(4, {0.2, 14, 3 / std::sqrt(12.5), 40 / std::sqrt(12.5)})));
  CHECK(near(reference::rms_norm(matrix(2, {0, 0}), weight, 1e-5), matrix(2, {0, 0})));
}

TEST_CASE("a linear adds its bias to every token") {
  const std::vector<float> bias{100, 200};
  const Matrix y = reference::linear(matrix(2, {1, 2, 3, 4}), matrix(2, {1, 0, 1, 1}), bias);
  CHECK(near(y, matrix(2, {101, 203, 103, 207})));
}

TEST_CASE("swiglu is the gate times its sigmoid times up") {
  // sigmoid(ln 3) = 3/4.
  const double x = std::log(3.0);
  CHECK(near(reference::swiglu(matrix(2, {x, 0}), matrix(2, {4, 5})), matrix(2, {3 * x, 0})));
}

TEST_CASE("rope turns neighbours or halves by a right angle at position 1") {
  const std::vector<double> frequencies{std::numbers::pi / 2, 0};
  const std::vector<int64_t> positions{1};
  Matrix normal = matrix(5, {1, 2, 3, 4, 5}), neox = normal;
  reference::rope(normal, 5, RopeOrder::kNormal, positions, frequencies);
  reference::rope(neox, 5, RopeOrder::kNeox, positions, frequencies);
  CHECK(near(normal, matrix(5, {-2, 1, 3, 4, 5})));  // pair (0, 1)
  CHECK(near(neox, matrix(5, {-3, 2, 1, 4, 5})));    // pair (0, 2)
}

TEST_CASE("a token of a tree attends to the context, its ancestors and itself") {
  // One head of one element, all scores 0: each weight is 1, so o counts the values that are seen.
  const Matrix q = matrix(1, {0, 0, 0}), keys = matrix(1, {1, 1, 1});
  const Matrix cached = matrix(1, {1, 10}), fresh = matrix(1, {100, 1000, 10000});
  const std::array<int32_t, 3> parents{-1, 0, -1};
  const auto state = reference::attention({.q = q,
                                           .cached_keys = cached,
                                           .cached_values = cached,
                                           .new_keys = keys,
                                           .new_values = fresh,
                                           .context = {1, 2},
                                           .parents = parents.data(),
                                           .head_dim = 1});
  CHECK(near(state.o, matrix(1, {110, 1110, 10010})));
  CHECK(near(state.l, matrix(1, {2, 3, 2})));
  CHECK(near(state.m, matrix(1, {0, 0, 0})));
}

TEST_CASE("merging parts gives the whole, and an empty part changes nothing") {
  Matrix q(2, 4), cached(5, 2), fresh(2, 2);
  for (int i = 0; i < 8; ++i) q(i / 4, i % 4) = std::sin(i);
  for (int i = 0; i < 10; ++i) cached(i / 2, i % 2) = 3 * std::cos(i);
  for (int i = 0; i < 4; ++i) fresh(i / 2, i % 2) = 2 * std::sin(3 * i);
  const auto part = [&](Range context, bool include_new) {
    return reference::attention({.q = q,
                                 .cached_keys = cached,
                                 .cached_values = cached,
                                 .new_keys = fresh,
                                 .new_values = fresh,
                                 .context = context,
                                 .include_new = include_new,
                                 .head_dim = 2,
                                 .group = 2});
  };
  const auto whole = part({0, 5}, true);
  const auto merged = reference::merge(part({0, 3}, false), part({3, 5}, true));
  CHECK(near(reference::attention_output(merged), reference::attention_output(whole)));
  const auto with_empty = reference::merge(part({0, 0}, false), whole);
  CHECK(near(with_empty.o, whole.o));
  CHECK(near(with_empty.m, whole.m));
  CHECK(near(with_empty.l, whole.l));
}

TEST_CASE("the first of several largest values wins") {
  const std::vector<double> values{1, 3, -2, 3};
  CHECK(reference::argmax(values) == 1);
}
