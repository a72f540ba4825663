#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "kernels/kernel_set.h"
#include "test_data.h"

using namespace tandem;

namespace {

uint16_t half_at(const std::byte* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return half;
}

/// Element k of a column of a packed panel, by the layout that kernel_set.h and pack.cpp state.
double packed_element(DType dtype, const std::byte* panel, int64_t column, int64_t k) {
  if (dtype == DType::kF32) {
    float x;
    std::memcpy(&x, panel + (16 * k + column) * 4, sizeof x);
    return x;
  }
  if (dtype == DType::kF16) return f16_to_f32(half_at(panel + (16 * k + column) * 2));
  if (dtype == DType::kBF16)
    return bf16_to_f32(half_at(panel + (k / 2 * 32 + 2 * column + k % 2) * 2));
  const int64_t block = k / 32, i = k % 32, quants = dtype == DType::kQ8_0 ? 512 : 256;
  const std::byte* stretch = panel + block / 2 * (64 + 2 * quants);
  const double scale = f16_to_f32(half_at(stretch + block % 2 * 32 + 2 * column));
  const std::byte* data = stretch + 64 + block % 2 * quants;
  if (dtype == DType::kQ8_0)  // groups of 4 elements, signs flipped to an offset of 128
    return scale * (static_cast<int>(data[i / 4 * 64 + 4 * column + i % 4]) - 128);
  const int byte = static_cast<int>(data[i % 16 / 4 * 64 + 4 * column + i % 4]);
  return scale * ((i < 16 ? byte & 15 : byte >> 4) - 8);
}

std::vector<int64_t> packed_lengths(DType dtype) {
  if (info(dtype).block_size == 256) return {256, 768};
  if (info(dtype).block_size > 1) return {32, 64, 96, 256};
  return {1, 2, 31, 64, 77};
}

}  // namespace

TEST_CASE("every element of a matrix is found in its panel, and missing columns are zero") {
  for (const DTypeInfo& d : kCommonDTypes) {
    for (const int64_t k : packed_lengths(d.dtype)) {
      CAPTURE(d.name);
      CAPTURE(k);
      const TestMatrix matrix = make_matrix(d.dtype, 13, k, 7);
      std::array<const std::byte*, 16> rows{};
      for (int64_t c = 0; c < 13; ++c)
        rows[static_cast<size_t>(c)] = matrix.bytes.data() + c * row_bytes(d.dtype, k);
      std::vector<std::byte> panel(static_cast<size_t>(panel_bytes(d.dtype, k)), std::byte{0x55});
      pack_panel(d.dtype, rows.data(), k, panel.data());
      int wrong = 0;
      for (int64_t c = 0; c < 16; ++c)
        for (int64_t i = 0; i < k; ++i)
          wrong += packed_element(d.dtype, panel.data(), c, i) != (c < 13 ? matrix.exact(c, i) : 0);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("panels are whole cache lines and little longer than the rows") {
  for (const DTypeInfo& d : kCommonDTypes) {
    CAPTURE(d.name);
    CHECK(panel_bytes(d.dtype, 96) % 64 == 0);
    // 2048 = 32 pairs of blocks: nothing is padded.
    CHECK(panel_bytes(d.dtype, 2048) == 16 * row_bytes(d.dtype, 2048));
  }
}

TEST_CASE("panels of quants are whole cache lines and little longer than the rows") {
  for (const DTypeInfo& d : std::span(kDTypes).subspan(kCommonDTypes.size())) {
    CAPTURE(d.name);
    CHECK(panel_bytes(d.dtype, 2048) % 64 == 0);
    const int64_t rows = 16 * row_bytes(d.dtype, 2048);
    // Scales without minimums take a byte each, and a superblock's factor as much as two.
    CHECK(panel_bytes(d.dtype, 2048) >= rows);
    CHECK(static_cast<double>(panel_bytes(d.dtype, 2048)) < 1.06 * static_cast<double>(rows));
    if (d.dtype == DType::kQ4_K || d.dtype == DType::kQ5_K)
      CHECK(panel_bytes(d.dtype, 2048) == rows);
  }
}

TEST_CASE("quants that lie in no column are zero, and so is what they mean") {
  for (const DTypeInfo& d : std::span(kDTypes).subspan(kCommonDTypes.size())) {
    CAPTURE(d.name);
    const TestMatrix matrix = make_matrix(d.dtype, 1, 256, 3);
    std::array<const std::byte*, 16> rows{};
    rows[5] = matrix.bytes.data();
    std::vector<std::byte> panel(static_cast<size_t>(panel_bytes(d.dtype, 256)), std::byte{0x55});
    pack_panel(d.dtype, rows.data(), 256, panel.data());
    std::vector<float> column(256);
    for (int64_t c = 0; c < 16; ++c) {
      unpack_column(d.dtype, panel.data(), c, 256, column.data());
      CHECK(std::any_of(column.begin(), column.end(), [](float x) { return x != 0; }) == (c == 5));
    }
  }
}

TEST_CASE("a row of quants is dequantised to the values of its definition") {
  for (const DTypeInfo& d : std::span(kDTypes).subspan(kCommonDTypes.size()))
    for (const Values values : kAllValues) {
      CAPTURE(d.name);
      const TestMatrix matrix = make_matrix(d.dtype, 1, 256, 11, values);
      std::vector<float> row(256);
      dequantize_row(d.dtype, matrix.bytes.data(), 256, row.data());
      // A product and a sum, each rounded, of what may nearly cancel.
      const double largest = matrix.exact.cwiseAbs().maxCoeff();
      for (int64_t i = 0; i < 256; ++i)
        CHECK(std::abs(row[static_cast<size_t>(i)] - matrix.exact(0, i)) <= 1e-6 * largest);
    }
}

TEST_CASE("a row is dequantised to exactly the values of its definition") {
  for (const DTypeInfo& d : kCommonDTypes) {
    for (const Values values : kAllValues) {
      CAPTURE(d.name);
      const TestMatrix matrix = make_matrix(d.dtype, 3, 64, 11, values);
      std::vector<float> row(64);
      dequantize_row(d.dtype, matrix.bytes.data() + 2 * row_bytes(d.dtype, 64), 64, row.data());
      // An f16 scale (11 bits) times a quant (8 bits) fits in a float.
      CHECK(reference::from_floats(row.data(), 1, 64) == matrix.exact.row(2));
    }
  }
}

TEST_CASE("a column unpacked from its panel is the row that was packed") {
  for (const DTypeInfo& d : kDTypes)
    for (const int64_t k : packed_lengths(d.dtype)) {
      const TestMatrix matrix = make_matrix(d.dtype, 16, k, 11);
      std::array<const std::byte*, 16> rows{};
      for (int64_t c = 0; c < 16; ++c)
        rows[static_cast<size_t>(c)] = matrix.bytes.data() + c * row_bytes(d.dtype, k);
      std::vector<std::byte> panel(static_cast<size_t>(panel_bytes(d.dtype, k)));
      pack_panel(d.dtype, rows.data(), k, panel.data());
      std::vector<float> expected(static_cast<size_t>(k)), unpacked(static_cast<size_t>(k));
      for (int64_t c = 0; c < 16; ++c) {
        dequantize_row(d.dtype, rows[static_cast<size_t>(c)], k, expected.data());
        unpack_column(d.dtype, panel.data(), c, k, unpacked.data());
        CAPTURE(d.name);
        CHECK(unpacked == expected);
      }
    }
}
