#include "cuda_test_data.h"
#include "kernels/cuda_arithmetic.h"

using namespace tandem;
using namespace tandem::cuda;

namespace {

std::vector<int64_t> chunk_lengths(DType dtype) {
  if (info(dtype).block_size > 1) return {32, 64, 96, 256};
  return {1, 3, 4, 7, 8, 20, 77};
}

template <class T>
T read_as(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

uint16_t scale_of(const WeightMatrix& matrix, int64_t column, int64_t element) {
  return matrix.scales == nullptr ? uint16_t{0}
                                  : matrix.scales[column * (matrix.k / 32) + element / 32];
}

/// Element `e` of a packed column by the format's own arithmetic: a dot product with one that is 1.
template <class Format>
double element_of(const WeightMatrix& matrix, int64_t column, int64_t e) {
  const std::byte* chunk =
      matrix.quants + column * matrix.column_bytes + e / Format::kElements * 16;
  const auto weights = Format::decode(read_as<Bytes16>(chunk), scale_of(matrix, column, e));
  InputChunk<Format::kVectors> x{};
  const auto i = static_cast<size_t>(e % Format::kElements);
  if (Format::kQuants) {
    x.vectors[i / 16].words[i / 4 % 4] = 1u << i % 4 * 8;
    x.scale = 1;
  } else {
    x.vectors[i / 4].words[i % 4] = float_bits(1);
  }
  return Format::dot(weights, x, 0);
}

template <class Format>
int64_t wrong_elements(const WeightMatrix& matrix, const reference::Matrix& exact, Range columns) {
  int64_t wrong = 0;
  for (int64_t c = 0; c < columns.size(); ++c)
    for (int64_t e = 0; e < exact.cols(); ++e)
      wrong += element_of<Format>(matrix, c, e) != exact(columns.begin + c, e);
  return wrong;
}

template <class Format>
int64_t wrong_eights(const WeightMatrix& matrix, const reference::Matrix& exact) {
  int64_t wrong = 0;
  for (int64_t c = 0; c < exact.rows(); ++c)
    for (int64_t group = 0; group < exact.cols() / 8; ++group) {
      const std::byte* bytes =
          matrix.quants + c * matrix.column_bytes + Format::eight_offset(group);
      float values[8];
      Format::decode_eight(read_as<Bytes8>(bytes), scale_of(matrix, c, 8 * group), group, values);
      for (int64_t i = 0; i < 8; ++i) wrong += values[i] != exact(c, 8 * group + i);
    }
  return wrong;
}

/// f(Format{}) of a dtype, in plain code.
template <class Function>
int64_t with_portable_format(DType dtype, const Function& f) {
  switch (dtype) {
    case DType::kF32:
      return f(FloatFormat<F32Element, PortableOps>{});
    case DType::kF16:
      return f(FloatFormat<F16Element, PortableOps>{});
    case DType::kBF16:
      return f(FloatFormat<BF16Element, PortableOps>{});
    case DType::kQ8_0:
      return f(BlockFormat<Q8_0Block, PortableOps>{});
    case DType::kQ4_0:
      return f(BlockFormat<Q4_0Block, PortableOps>{});
    default:
      break;
  }
  return -1;
}

}  // namespace

TEST_CASE(
    "every element of a matrix is found in its packed column, by the arithmetic of its format") {
  for (const DTypeInfo& d : kCommonDTypes)
    for (const int64_t k : chunk_lengths(d.dtype))
      for (const Values values : {Values::kRandom, Values::kExtreme}) {
        CAPTURE(d.name);
        CAPTURE(k);
        const TestMatrix source = make_matrix(d.dtype, 13, k, 7, values);
        const Range columns{4, 13};
        std::vector<std::byte> packed(static_cast<size_t>(matrix_bytes(d.dtype, 9, k)));
        pack_columns(source.source(), columns, packed.data());
        const WeightMatrix matrix = matrix_at(packed.data(), d.dtype, columns, k);
        CHECK(with_portable_format(d.dtype, [&](auto format) {
                return wrong_elements<decltype(format)>(matrix, source.exact, columns);
              }) == 0);
      }
}

TEST_CASE("columns are whole 16 bytes and padded with zeros, and so is what follows them") {
  CHECK(column_bytes(DType::kF32, 5) == 32);
  CHECK(column_bytes(DType::kBF16, 9) == 32);
  CHECK(column_bytes(DType::kQ8_0, 96) == 96);
  CHECK(column_bytes(DType::kQ4_0, 96) == 48);
  CHECK(matrix_bytes(DType::kF16, 3, 128) == 768);
  CHECK(matrix_bytes(DType::kQ4_0, 3, 64) == 256 + 256);  // 96 bytes of quants, 12 of scales
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ4_0}) {
    CAPTURE(name(dtype));
    const int64_t k = dtype == DType::kQ4_0 ? 32 : 5;
    const TestMatrix source = make_matrix(dtype, 3, k, 7, Values::kExtreme);
    const auto size = static_cast<size_t>(matrix_bytes(dtype, 3, k));
    std::vector<std::byte> packed(size, std::byte{0x55}), again(size, std::byte{0xaa});
    pack_columns(source.source(), {0, 3}, packed.data());
    pack_columns(source.source(), {0, 3}, again.data());
    CHECK(packed == again);
    if (dtype != DType::kQ4_0) {
      const int64_t used = row_bytes(dtype, k), stride = column_bytes(dtype, k);
      for (int64_t c = 0; c < 3; ++c)
        for (int64_t i = used; i < stride; ++i)
          CHECK(packed[static_cast<size_t>(c * stride + i)] == std::byte{0});
    }
  }
}

TEST_CASE("eight elements at a time are decoded to the values of the file") {
  for (const Values values : {Values::kRandom, Values::kExtreme}) {
    for (const DType dtype : {DType::kQ8_0, DType::kQ4_0}) {
      CAPTURE(name(dtype));
      const TestMatrix source = make_matrix(dtype, 3, 96, 7, values);
      std::vector<std::byte> packed(static_cast<size_t>(matrix_bytes(dtype, 3, 96)));
      pack_columns(source.source(), {0, 3}, packed.data());
      const WeightMatrix matrix = matrix_at(packed.data(), dtype, {0, 3}, 96);
      CHECK(with_portable_format(dtype, [&](auto format) -> int64_t {
              using Format = decltype(format);
              if constexpr (Format::kQuants) {
                return wrong_eights<Format>(matrix, source.exact);
              } else {
                return -1;
              }
            }) == 0);
    }
  }
}

TEST_CASE("the largest sums of a block of integers are exact") {
  // 16 products of -128 and 127, and 32 of 16 * -8 and 127: below 2^24, so float holds them.
  using Q8 = BlockFormat<Q8_0Block, PortableOps>;
  using Q4 = BlockFormat<Q4_0Block, PortableOps>;
  InputChunk<1> x8{};
  InputChunk<2> x4{};
  Bytes16 lowest8{}, lowest4{};
  for (int i = 0; i < 4; ++i) {
    x8.vectors[0].words[i] = x4.vectors[0].words[i] = x4.vectors[1].words[i] = 0x7f7f7f7fu;
    lowest8.words[i] = 0x80808080u;
  }
  x8.scale = x4.scale = 1;
  const uint16_t one = f32_to_f16(1);
  CHECK(Q8::dot(Q8::decode(lowest8, one), x8, 0) == -16 * 128 * 127);
  CHECK(Q4::dot(Q4::decode(lowest4, one), x4, 0) == -32 * 8 * 127);
}

TEST_CASE("small arithmetic: RoPE's pairs, quantisation, SwiGLU") {
  CHECK(rope_pair(3, 20, true).first == 3);
  CHECK(rope_pair(3, 20, true).second == 13);
  CHECK(rope_pair(3, 20, false).first == 6);
  CHECK(rope_pair(3, 20, false).second == 7);
  CHECK(rotate({2, 3}, 0, 1).first == -3);  // by 90 degrees
  CHECK(rotate({2, 3}, 0, 1).second == 2);
  CHECK(quantize(1, quant_inverse(2)) == 64);  // 63.5: to even
  CHECK(quantize(-2, quant_inverse(2)) == -127);
  CHECK(quantize(1e-31f, quant_inverse(1e-31f)) == 0);
  CHECK(swiglu<PortableOps>(0, 5) == 0);
  CHECK(swiglu<PortableOps>(-1000, 5) == 0);
  CHECK(swiglu<PortableOps>(1000, 5) == 5000);
}
