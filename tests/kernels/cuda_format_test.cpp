#include "cuda_test_data.h"
#include "kernels/cuda_arithmetic.h"
#include "kernels/cuda_chunk_math.h"

using namespace tandem;
using namespace tandem::cuda;

namespace {

std::vector<int64_t> chunk_lengths(DType dtype) {
  if (info(dtype).block_size == 256) return {256, 768};
  if (info(dtype).block_size > 1) return {32, 64, 96, 256};
  return {1, 3, 4, 7, 8, 20, 77};
}

/// So many bytes of a column's plane, from an offset on.
template <class T>
T read_plane(const WeightMatrix& matrix, int plane, int64_t column, int64_t offset, int bytes) {
  T value{};
  const std::byte* begin = skip_columns(matrix.planes[plane], column).data;
  std::memcpy(&value, begin + offset, static_cast<size_t>(bytes));
  return value;
}

template <class Format>
Chunk read_chunk(const WeightMatrix& matrix, int64_t column, int64_t chunk) {
  const PlaneOffsets at = Format::offsets(static_cast<int>(chunk));
  Chunk loaded{
      .low = read_plane<Bytes16>(matrix, kLowPlane, column, at.low, 16),
      .high = {},
      .scales = read_plane<uint32_t>(matrix, kScalePlane, column, at.scales, Format::kScaleBytes),
      .factors =
          read_plane<uint32_t>(matrix, kFactorPlane, column, at.factors, Format::kFactorBytes)};
  const auto high = read_plane<Bytes8>(matrix, kHighPlane, column, at.high, Format::kHighBytes);
  std::copy_n(high.words, 2, loaded.high);
  return loaded;
}

/// Element `e` of a packed column by the format's own arithmetic: a dot product with one that is 1.
template <class Format>
float element_of(const WeightMatrix& matrix, int64_t column, int64_t e) {
  constexpr int kSub = Format::kElements / Format::kSubs;
  const auto in_chunk = static_cast<int>(e % Format::kElements);
  const auto weights =
      Format::decode(read_chunk<Format>(matrix, column, e / Format::kElements), in_chunk / kSub);
  InputChunk<Format::kVectors> x{};
  const auto i = static_cast<size_t>(in_chunk % kSub);
  if (Format::kQuants) {
    x.vectors[i / 16].words[i / 4 % 4] = 1u << i % 4 * 8;
    x.scale = 1;
  } else {
    x.vectors[i / 4].words[i % 4] = float_bits(1);
  }
  return Format::dot(weights, x, 0);
}

// With minimums an element is a sum of two, each exact, that is rounded once.

template <class Format>
int64_t wrong_elements(const WeightMatrix& matrix, const reference::Matrix& exact, Range columns) {
  int64_t wrong = 0;
  for (int64_t c = 0; c < columns.size(); ++c)
    for (int64_t e = 0; e < exact.cols(); ++e)
      wrong += element_of<Format>(matrix, c, e) != static_cast<float>(exact(columns.begin + c, e));
  return wrong;
}

template <class Format>
EightQuants read_eight(const WeightMatrix& matrix, int64_t column, int group) {
  const PlaneOffsets at = Format::eight_offsets(group);
  return {
      .low = read_plane<Bytes8>(matrix, kLowPlane, column, at.low, 8),
      .high = read_plane<uint32_t>(matrix, kHighPlane, column, at.high,
                                   std::min(Format::kHighBytes, 4)),
      .scales = read_plane<uint32_t>(matrix, kScalePlane, column, at.scales, Format::kScaleBytes),
      .factors =
          read_plane<uint32_t>(matrix, kFactorPlane, column, at.factors, Format::kFactorBytes)};
}

template <class Format>
int64_t wrong_eights(const WeightMatrix& matrix, const reference::Matrix& exact) {
  int64_t wrong = 0;
  for (int64_t c = 0; c < exact.rows(); ++c)
    for (int group = 0; group < exact.cols() / 8; ++group) {
      float values[8];
      Format::decode_eight(read_eight<Format>(matrix, c, group), group, values);
      for (int i = 0; i < 8; ++i) wrong += values[i] != static_cast<float>(exact(c, 8 * group + i));
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
  int64_t result = -1;
  with_quant_format(dtype, [&](auto source) {
    result = f(BlockFormat<PlaneBlock<decltype(source)>, PortableOps>{});
  });
  return result;
}

}  // namespace

TEST_CASE(
    "every element of a matrix is found in its packed column, by the arithmetic of its format") {
  for (const DTypeInfo& d : kDTypes)
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
  CHECK(column_bytes(DType::kF32, 5)[kLowPlane] == 32);
  CHECK(column_bytes(DType::kBF16, 9)[kLowPlane] == 32);
  CHECK(column_bytes(DType::kQ8_0, 96)[kLowPlane] == 96);
  CHECK(column_bytes(DType::kQ4_0, 96)[kLowPlane] == 48);
  CHECK(matrix_bytes(DType::kF16, 3, 128) == 768);
  CHECK(matrix_bytes(DType::kQ4_0, 3, 64) == 256 + 256);  // 96 bytes of quants, 12 of scales
  // 8 chunks: their high bits, scale and minimum of each, d and the minimums' factor.
  CHECK(column_bytes(DType::kQ5_K, 256) == std::array<int64_t, 4>{128, 32, 16, 4});
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ4_0, DType::kQ6_K}) {
    CAPTURE(name(dtype));
    const bool ragged = info(dtype).block_size == 1;
    const int64_t k = ragged ? 5 : info(dtype).block_size;
    const TestMatrix source = make_matrix(dtype, 3, k, 7, Values::kExtreme);
    const auto size = static_cast<size_t>(matrix_bytes(dtype, 3, k));
    std::vector<std::byte> packed(size, std::byte{0x55}), again(size, std::byte{0xaa});
    pack_columns(source.source(), {0, 3}, packed.data());
    pack_columns(source.source(), {0, 3}, again.data());
    CHECK(packed == again);
    if (ragged) {
      const int64_t used = row_bytes(dtype, k), stride = column_bytes(dtype, k)[kLowPlane];
      for (int64_t c = 0; c < 3; ++c)
        for (int64_t i = used; i < stride; ++i)
          CHECK(packed[static_cast<size_t>(c * stride + i)] == std::byte{0});
    }
  }
}

TEST_CASE("threads that share a matrix pack what one does") {
  cpu_set_t cores;
  sched_getaffinity(0, sizeof cores, &cores);
  constexpr int64_t kWide = 701, kDeep = 4096;
  for (const DType dtype : {DType::kQ4_0, DType::kQ6_K}) {
    CAPTURE(name(dtype));
    const TestMatrix source = make_matrix(dtype, kWide, kDeep, 7);
    const auto size = static_cast<size_t>(matrix_bytes(dtype, kWide - 3, kDeep));
    std::vector<std::byte> alone(size), together(size);
    pack_columns(source.source(), {3, kWide}, alone.data());
    pack_columns(source.source(), {3, kWide}, together.data(), &cores);
    CHECK(alone == together);
  }
}

TEST_CASE("a packed matrix is little larger than the file") {
  for (const DTypeInfo& d : kDTypes) {
    CAPTURE(d.name);
    const int64_t file = 64 * row_bytes(d.dtype, 2048), packed = matrix_bytes(d.dtype, 64, 2048);
    // Scales of 4 and 6 bits take bytes.
    CHECK(packed >= file);
    CHECK(static_cast<double>(packed) <= 1.04 * static_cast<double>(file));
  }
}

TEST_CASE("eight elements at a time are decoded to the values of the file") {
  for (const Values values : {Values::kRandom, Values::kExtreme}) {
    for (const DTypeInfo& d : kDTypes) {
      if (d.block_size == 1) continue;
      CAPTURE(d.name);
      const int64_t k = std::max<int64_t>(d.block_size, 96);
      const TestMatrix source = make_matrix(d.dtype, 3, k, 7, values);
      std::vector<std::byte> packed(static_cast<size_t>(matrix_bytes(d.dtype, 3, k)));
      pack_columns(source.source(), {0, 3}, packed.data());
      const WeightMatrix matrix = matrix_at(packed.data(), d.dtype, {0, 3}, k);
      CHECK(with_portable_format(d.dtype, [&](auto format) -> int64_t {
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
  const uint32_t one = f32_to_f16(1);
  Chunk lowest8{.low = {}, .high = {}, .scales = 0, .factors = one}, lowest4 = lowest8;
  for (int i = 0; i < 4; ++i) {
    x8.vectors[0].words[i] = x4.vectors[0].words[i] = x4.vectors[1].words[i] = 0x7f7f7f7fu;
    lowest8.low.words[i] = 0x80808080u;
  }
  x8.scale = x4.scale = 1;
  CHECK(Q8::dot(Q8::decode(lowest8, 0), x8, 0) == -16 * 128 * 127);
  CHECK(Q4::dot(Q4::decode(lowest4, 0), x4, 0) == -32 * 8 * 127);
}

TEST_CASE("a table is looked up for the lower and the upper nibbles of a word") {
  for (uint32_t i = 0; i < 16; ++i) {
    const uint32_t nibbles = 0x84210000u | (15 - i) << 4 | i;
    uint32_t lower, upper;
    PortableOps::look_up(nibbles, lower, upper);
    for (int b = 0; b < 4; ++b) {
      CHECK(static_cast<int8_t>(lower >> 8 * b & 0xff) == kIq4Values[nibbles >> 8 * b & 15]);
      CHECK(static_cast<int8_t>(upper >> 8 * b & 0xff) == kIq4Values[nibbles >> 8 * b >> 4 & 15]);
    }
  }
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
