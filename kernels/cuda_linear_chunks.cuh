// What one warp of a linear kernel does: rows of 16-byte chunks of a few columns times the input
// they meet. Included by cuda_linear_columns.cuh only, which says in which order sums are made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_formats.cuh"
#include "kernels/cuda_planes.h"
#include "kernels/cuda_ptx.cuh"
#include "kernels/cuda_warp.cuh"

namespace tandem::cuda {

/// 16-byte vectors of input that a chunk meets.
template <class Format>
inline constexpr int kChunkVectors = Format::kSubs* Format::kVectors;

/// How a kernel for chunks of kVectors vectors is laid out; of no influence on a result. Steps of
/// fewer than kTokens tokens compute the last one again.
///
/// One and two tokens read their input where they need it, from the L1. For more that would load
/// more input than weights (4 tokens, F16: 1 KiB a row and token, for 512 bytes of each column), so
/// a block copies it to shared memory first, in an order without bank conflicts.
template <int kTokens_, int kColumns_, int kVectors>
struct Shape {
  static constexpr int kTokens = kTokens_;
  static constexpr int kColumns = kColumns_;  // of a warp
  static constexpr int kValues = kColumns * kTokens;
  static constexpr bool kStaged = kTokens >= 4;
  // In shared memory: at most 32 KiB.
  static constexpr int kTileRows = kStaged ? (kVectors > 2 ? 16 : 32) / kTokens : 0;
  // 8 loads in flight a lane, or 4 where sums take the registers.
  static constexpr int kWantedRows = (kTokens == 16 ? 4 : 8) / kColumns;
  static constexpr int kRows = kStaged && kTileRows < kWantedRows ? kTileRows : kWantedRows;
  static constexpr int kMaxWarps = kStaged ? 8 : 4;  // of a block
  static constexpr int kMaxColumns = kMaxWarps * kColumns;
  static constexpr int kMinBlocks = kStaged ? 2 : 4;  // a multiprocessor's: 128 registers
};

/// The columns of a matrix that a launch multiplies.
struct Part {
  Plane planes[kPlanes];  ///< from the first of `columns` on
  int columns;
  float* y;       ///< [tokens x y_stride], the first of `columns` in front
  float* shared;  ///< the same, or null
  int64_t y_stride;
};

/// Prepared rows: 16-byte vectors of floats or quants, and of quants a scale per 32.
struct InputRows {
  const std::byte* values;
  int64_t value_bytes;  ///< of a row
  const float* scales;
  int scales_of_row;
  int tokens;
  int k;
  bool ragged;  ///< rows of floats are not made of whole, aligned 16 bytes
};

/// How far a chunk lies from the one that a cursor points at.
struct Distance {
  PlaneOffsets weights;
  int vectors;
  int scales;  ///< of the input
};
template <class Format>
__device__ constexpr Distance distance_of(int chunks) {
  return {Format::offsets(chunks), chunks * kChunkVectors<Format>,
          Format::kQuants ? chunks * Format::kElements / 32 : 0};
}
/// How far the input's scale of a sub-block lies from its chunk's first one.
template <class Format>
__host__ __device__ constexpr int scale_of_sub(int sub) {
  return sub * Format::kVectors / 2;
}

/// One lane's chunk of C columns. Pointers, so that the chunks of several rows lie at constant
/// distances, and one address serves them all.
template <class Format, int C>
struct ColumnCursor {
  const std::byte* low[C];
  const std::byte* high[C];
  const std::byte* scales[C];
  const std::byte* factors[C];

  /// Columns beyond the last are the last again, and their results are not used.
  __device__ ColumnCursor(const Part& part, int first_column, int chunk) {
    const PlaneOffsets at = Format::offsets(chunk);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int64_t column = min(first_column + c, part.columns - 1);
      const auto begin = [column](const Plane& plane) { return skip_columns(plane, column).data; };
      low[c] = begin(part.planes[kLowPlane]) + at.low;
      high[c] = begin(part.planes[kHighPlane]) + at.high;
      scales[c] = begin(part.planes[kScalePlane]) + at.scales;
      factors[c] = begin(part.planes[kFactorPlane]) + at.factors;
    }
  }
  __device__ Chunk chunk(int c, const PlaneOffsets& at) const {
    const uint4 loaded = load_streaming(reinterpret_cast<const uint4*>(low[c] + at.low));
    Chunk chunk{{{loaded.x, loaded.y, loaded.z, loaded.w}}, {0, 0}, 0, 0};
    if constexpr (Format::kHighBytes == 8) {
      const uint2 both = __ldg(reinterpret_cast<const uint2*>(high[c] + at.high));
      chunk.high[0] = both.x;
      chunk.high[1] = both.y;
    } else {
      chunk.high[0] = load_bytes<Format::kHighBytes>(high[c] + at.high);
    }
    chunk.scales = load_bytes<Format::kScaleBytes>(scales[c] + at.scales);
    chunk.factors = load_bytes<Format::kFactorBytes>(factors[c] + at.factors);
    return chunk;
  }
  __device__ void advance(const PlaneOffsets& by) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      low[c] += by.low;
      high[c] += by.high;
      scales[c] += by.scales;
      factors[c] += by.factors;
    }
  }
};

/// One lane's chunk of the input of T tokens.
template <class Format, int T>
struct InputCursor {
  const Bytes16* vectors[T];
  const float* scales[T];

  /// Tokens beyond the last are the last again.
  __device__ InputCursor(const InputRows& input, int first_token, int chunk) {
    const Distance at = distance_of<Format>(chunk);
#pragma unroll
    for (int t = 0; t < T; ++t) {
      const int64_t row = min(first_token + t, input.tokens - 1);
      vectors[t] =
          reinterpret_cast<const Bytes16*>(input.values + row * input.value_bytes) + at.vectors;
      scales[t] = input.scales + row * input.scales_of_row + at.scales;
    }
  }
  __device__ InputChunk<Format::kVectors> get(int t, const Distance& distance, int sub) const {
    InputChunk<Format::kVectors> x{};
#pragma unroll
    for (int v = 0; v < Format::kVectors; ++v)
      x.vectors[v] = vectors[t][distance.vectors + sub * Format::kVectors + v];
    if constexpr (Format::kQuants) x.scale = scales[t][distance.scales + scale_of_sub<Format>(sub)];
    return x;
  }
  __device__ void advance(const Distance& by) {
#pragma unroll
    for (int t = 0; t < T; ++t) {
      vectors[t] += by.vectors;
      scales[t] += by.scales;
    }
  }
};

/// The same where rows are ragged, element by element.
template <class Format>
__device__ InputChunk<Format::kVectors> load_ragged_input(const InputRows& input, int token,
                                                          int chunk) {
  InputChunk<Format::kVectors> x{};
  if constexpr (!Format::kQuants) {
    const int64_t begin = min(token, input.tokens - 1) * input.value_bytes;
    const auto* row = reinterpret_cast<const float*>(input.values + begin);
    for (int i = 0; i < Format::kElements; ++i) {
      const int element = chunk * Format::kElements + i;
      x.vectors[i / 4].words[i % 4] = element < input.k ? float_bits(row[element]) : 0;
    }
  }
  return x;
}

/// Input of kTileRows rows in shared memory: neighbouring lanes' vectors lie side by side.
template <class Format, class S>
struct Tile {
  static constexpr int kScales = scale_of_sub<Format>(Format::kSubs - 1) + 1;  // of a chunk
  Bytes16 vectors[S::kTileRows][S::kTokens][kChunkVectors<Format>][kLanes];
  float scales[Format::kQuants ? S::kTileRows : 1][Format::kQuants ? S::kTokens : 1][kScales]
              [kLanes];

  __device__ void set(int row, int token, int sub, int lane,
                      const InputChunk<Format::kVectors>& x) {
#pragma unroll
    for (int v = 0; v < Format::kVectors; ++v)
      vectors[row][token][sub * Format::kVectors + v][lane] = x.vectors[v];
    if constexpr (Format::kQuants) scales[row][token][scale_of_sub<Format>(sub)][lane] = x.scale;
  }
  __device__ InputChunk<Format::kVectors> get(int row, int token, int sub, int lane) const {
    InputChunk<Format::kVectors> x{};
#pragma unroll
    for (int v = 0; v < Format::kVectors; ++v)
      x.vectors[v] = vectors[row][token][sub * Format::kVectors + v][lane];
    if constexpr (Format::kQuants) x.scale = scales[row][token][scale_of_sub<Format>(sub)][lane];
    return x;
  }
};

/// Copies the input of kTileRows rows from chunk `first` on, zeros beyond the last, by all threads.
template <class Format, class S>
__device__ void stage(const InputRows& input, int first, int chunks, Tile<Format, S>& tile) {
  const int lane = lane_of_thread(), warps = static_cast<int>(blockDim.x / kLanes);
  for (int i = warp_of_thread(); i < S::kTileRows * S::kTokens; i += warps) {
    const int token = i % S::kTokens, row = i / S::kTokens;
    const int chunk = first + row * kLanes + lane;
#pragma unroll
    for (int sub = 0; sub < Format::kSubs; ++sub) {
      InputChunk<Format::kVectors> x{};
      if (chunk < chunks)
        x = input.ragged ? load_ragged_input<Format>(input, token, chunk)
                         : InputCursor<Format, 1>(input, token, chunk).get(0, {}, sub);
      tile.set(row, token, sub, lane, x);
    }
  }
}

/// Adds kRows rows, from the lane's `chunk` on, where its cursor is, to the lane's sums [column,
/// token]. Not kWhole: chunks beyond the column's last count nothing. `input(r, distance, t, sub)`
/// is what a sub-block of the r-th row's chunk meets.
///
/// There is no branch between the loads and their use, or the compiler would move each load to its
/// use, and one at a time would be in flight.
template <class Format, class S, bool kWhole, class Input>
__device__ void multiply_chunks(const ColumnCursor<Format, S::kColumns>& columns, int chunk,
                                int chunks, const Input& input, float (&sums)[S::kValues]) {
  Chunk loaded[S::kRows][S::kColumns];
  Distance distances[S::kRows];
#pragma unroll
  for (int r = 0; r < S::kRows; ++r) {
    const bool inside = kWhole || chunk + r * kLanes < chunks;
    distances[r] = distance_of<Format>(r * kLanes);
    if (!inside) distances[r] = distance_of<Format>(-chunk);  // any will do
#pragma unroll
    for (int c = 0; c < S::kColumns; ++c) loaded[r][c] = columns.chunk(c, distances[r].weights);
  }
#pragma unroll
  for (int r = 0; r < S::kRows; ++r) {
    const bool inside = kWhole || chunk + r * kLanes < chunks;
#pragma unroll
    for (int sub = 0; sub < Format::kSubs; ++sub) {
      typename Format::Weights weights[S::kColumns];
#pragma unroll
      for (int c = 0; c < S::kColumns; ++c)
        weights[c] = Format::decode(inside ? loaded[r][c] : Chunk{}, sub);
#pragma unroll
      for (int t = 0; t < S::kTokens; ++t) {
        auto x = input(r, distances[r], t, sub);
        if (!inside) x = {};  // as in a tile: zero times infinity would be no number
#pragma unroll
        for (int c = 0; c < S::kColumns; ++c) {
          float& sum = sums[c * S::kTokens + t];
          sum = Format::dot(weights[c], x, sum);
        }
      }
    }
  }
}

/// The same, whole or not.
template <class Format, class S, class Input>
__device__ void multiply_rows(const ColumnCursor<Format, S::kColumns>& columns, int chunk,
                              int chunks, const Input& input, float (&sums)[S::kValues]) {
  if (chunk - lane_of_thread() + S::kRows * kLanes <= chunks) {  // one answer in a warp
    multiply_chunks<Format, S, true>(columns, chunk, chunks, input, sums);
  } else {
    multiply_chunks<Format, S, false>(columns, chunk, chunks, input, sums);
  }
}

/// Adds up N values over the lanes: afterwards lane i has in front those from i * N / 32 on (N / 32
/// of them, at least one). Every addition is one of a butterfly, so the sum is the same for any N;
/// but lanes that would both do it halve the values between them instead.
template <int kMask, int N, int kSize>
__device__ void add_lanes(float (&values)[kSize]) {
  if constexpr (kMask > 0) {
    constexpr int kKept = N > 1 ? N / 2 : 1;
    const bool upper = (threadIdx.x & kMask) != 0;
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const float high = values[(i + kKept) % kSize], low = values[i];
      const float other = N > 1 && !upper ? high : low;
      const float mine = N > 1 && upper ? high : low;
      values[i] = mine + __shfl_xor_sync(kAllLanes, other, kMask);
    }
    add_lanes<kMask / 2, kKept>(values);
  }
}

}  // namespace tandem::cuda
