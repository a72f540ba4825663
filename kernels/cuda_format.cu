// How weights lie in a CUDA device's memory. Everything here runs on the host.
#include <pthread.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/cuda_chunk_math.h"
#include "kernels/cuda_kernels.cuh"

namespace tandem::cuda {
namespace {

/// Of a file: a millisecond's work of quants, a tenth of it of copies, for a thread that takes some
/// tens of microseconds to begin.
constexpr int64_t kBytesOfThread = 512 << 10;

/// Where a column begins in each plane.
using ColumnPlanes = std::array<std::byte*, kPlanes>;

void zero(std::byte* from, std::byte* to) { std::memset(from, 0, static_cast<size_t>(to - from)); }

void pack_elements(DType dtype, const std::byte* row, int64_t k, const ColumnPlanes& column) {
  const int64_t bytes = row_bytes(dtype, k);
  std::byte* low = column[kLowPlane];
  std::memcpy(low, row, static_cast<size_t>(bytes));
  zero(low + bytes, low + column_bytes(dtype, k)[kLowPlane]);
}

/// Blocks of a row in file format: a scale, then quants.
void split_blocks(DType dtype, const std::byte* row, int64_t k, const ColumnPlanes& column) {
  constexpr int64_t kScaleBytes = 2;
  const int64_t block_bytes = info(dtype).block_bytes, quant_bytes = block_bytes - kScaleBytes;
  for (int64_t b = 0; b < k / 32; ++b) {
    const std::byte* block = row + b * block_bytes;
    std::memcpy(column[kFactorPlane] + b * kScaleBytes, block, kScaleBytes);
    std::memcpy(column[kLowPlane] + b * quant_bytes, block + kScaleBytes,
                static_cast<size_t>(quant_bytes));
  }
}

/// Quants of the block-th 32 elements of a chunk.
template <class Source>
void add_quads(const Quants& from, int64_t block, Chunk& chunk) {
  constexpr QuantFormat f = Source::kFormat;
  constexpr int kHighQuads = ChunkFigures<PlaneBlock<Source>>::kHighQuads;
  for (int g = 0; g < 8; ++g) {
    const int i = static_cast<int>(8 * block) + g;
    uint32_t quad;
    std::memcpy(&quad, from.q + 4 * g, 4);
    chunk.low.words[i % 4] |= (quad & in_every_byte(f.low_bits)) << i / 4 * f.low_bits;
    if (f.high_bits > 0)
      chunk.high[i / kHighQuads] |= (quad >> f.low_bits & in_every_byte(f.high_bits))
                                    << i % kHighQuads * f.high_bits;
  }
}

/// Their scales and factors.
template <class Source>
void add_scales(const Quants& from, int64_t block, Chunk& chunk) {
  constexpr QuantFormat f = Source::kFormat;
  constexpr int64_t kSubs = layout_of(f).elements / f.sub;
  chunk.factors = from.d | static_cast<uint32_t>(from.shift) << 16;
  if constexpr (f.superblock > 32) {
    for (int64_t i = 0; i < 32 / f.sub; ++i) {
      const int64_t sub = block * (32 / f.sub) + i;
      const uint32_t scale = static_cast<uint8_t>(from.scale[i]), min = from.min[i];
      chunk.scales |= (f.scale_bits == 4 ? scale | min << 4 : scale) << 8 * sub;
      if (f.has_min && f.scale_bits != 4) chunk.scales |= min << 8 * (kSubs + sub);
    }
  }
}

template <class Source>
void pack_chunks(DType dtype, const std::byte* row, int64_t k, const ColumnPlanes& column) {
  constexpr ColumnLayout kLayout = layout_of(Source::kFormat);
  constexpr int64_t kBlocks = kLayout.elements / 32;
  const auto put = [&](int plane, int64_t at, const void* from, size_t bytes) {
    std::memcpy(column[static_cast<size_t>(plane)] + at, from, bytes);
  };
  for (int64_t i = 0; i < k / kLayout.elements; ++i) {
    Chunk chunk{};
    for (int64_t b = 0; b < kBlocks; ++b) {
      const Quants quants = decode_quants<Source>(dtype, row, i * kBlocks + b);
      add_quads<Source>(quants, b, chunk);
      add_scales<Source>(quants, b, chunk);
    }
    const int64_t factors = i * kLayout.elements / kLayout.factor_elements;
    put(kLowPlane, i * 16, &chunk.low, 16);
    put(kHighPlane, i * kLayout.high_bytes, chunk.high, kLayout.high_bytes);
    put(kScalePlane, i * kLayout.scale_bytes, &chunk.scales, kLayout.scale_bytes);
    put(kFactorPlane, factors * kLayout.factor_bytes, &chunk.factors, kLayout.factor_bytes);
  }
}

void pack_column(DType dtype, const std::byte* row, int64_t k, const ColumnPlanes& column) {
  if (info(dtype).block_size == 1) return pack_elements(dtype, row, k, column);
  if (is_common(dtype)) return split_blocks(dtype, row, k, column);
  with_quant_format(dtype,
                    [&](auto format) { pack_chunks<decltype(format)>(dtype, row, k, column); });
}

}  // namespace

WeightMatrix matrix_at(const std::byte* base, DType dtype, Range columns, int64_t k) {
  WeightMatrix matrix{.dtype = dtype, .k = k, .columns = columns, .planes = {}};
  const std::array<int64_t, kPlanes> bytes = column_bytes(dtype, k);
  for (size_t p = 0; p < bytes.size(); ++p) {
    matrix.planes[p] = {.data = base, .column_bytes = bytes[p]};
    base += plane_bytes(columns.size(), bytes[p]);
  }
  return matrix;
}

void pack_columns(const MatrixSource& source, Range columns, std::byte* out,
                  const cpu_set_t* cores) {
  const std::array<int64_t, kPlanes> bytes = column_bytes(source.dtype, source.k);
  const int64_t row = row_bytes(source.dtype, source.k), n = columns.size();
  ColumnPlanes first;
  for (size_t p = 0; p < bytes.size(); ++p) {
    first[p] = out;
    out += plane_bytes(n, bytes[p]);
    zero(first[p] + n * bytes[p], out);
  }
  const auto pack = [&](Range piece) {
    for (int64_t c = piece.begin; c < piece.end; ++c) {
      ColumnPlanes column = first;
      for (size_t p = 0; p < bytes.size(); ++p) column[p] += c * bytes[p];
      pack_column(source.dtype, source.rows + (columns.begin + c) * row, source.k, column);
    }
  };
  const int64_t most = cores == nullptr ? 1 : CPU_COUNT(cores);
  const int64_t threads = std::clamp<int64_t>(n * row / kBytesOfThread, 1, most);
  std::vector<std::jthread> others;
  for (int64_t i = 1; i < threads; ++i)
    others.emplace_back([&, piece = Range{n * i / threads, n * (i + 1) / threads}] {
      pthread_setaffinity_np(pthread_self(), sizeof *cores, cores);
      pack(piece);
    });
  pack({0, n / threads});
}

}  // namespace tandem::cuda
