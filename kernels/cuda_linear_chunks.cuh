// What one warp of a linear kernel does: rows of 16-byte chunks of a few columns times the input
// they meet. Included by cuda_linear.cu only, which says in which order sums are made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_formats.cuh"
#include "kernels/cuda_ptx.cuh"

namespace tandem::cuda {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x % kLanes); }
__device__ inline int warp_of_thread() { return static_cast<int>(threadIdx.x / kLanes); }

/// How a kernel is laid out; of no influence on a result. Steps of fewer than kTokens tokens
/// compute the last one again.
///
/// One and two tokens read their input where they need it, from the L1. For more that would load
/// more input than weights (4 tokens, F16: 1 KiB a row and token, for 512 bytes of each column), so
/// a block copies it to shared memory first, in an order without bank conflicts.
template <int kTokens_, int kColumns_>
struct Shape {
  static constexpr int kTokens = kTokens_;
  static constexpr int kColumns = kColumns_;  // of a warp
  static constexpr int kValues = kColumns * kTokens;
  static constexpr bool kStaged = kTokens >= 4;
  // 8 loads in flight a lane, or 4 where sums take the registers.
  static constexpr int kRows = (kTokens == 16 ? 4 : 8) / kColumns;
  static constexpr int kTileRows = kStaged ? 32 / kTokens : 0;  // in shared memory: at most 32 KiB
  static constexpr int kMaxWarps = kStaged ? 8 : 4;             // of a block
  static constexpr int kMaxColumns = kMaxWarps * kColumns;
  static constexpr int kMinBlocks = kStaged ? 2 : 4;  // a multiprocessor's: 128 registers
};

/// The columns of a matrix that a launch multiplies.
struct Part {
  const std::byte* quants;
  const uint16_t* scales;  ///< or null
  int64_t column_bytes;
  int scales_of_column;
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
  int chunks;
  int scales;
};
template <class Format>
__device__ constexpr Distance distance_of(int chunks) {
  return {chunks, chunks / Format::kScaleChunks};
}

/// One lane's chunk of C columns. Pointers, so that the chunks of several rows lie at constant
/// distances, and one address serves them all.
template <class Format, int C>
struct ColumnCursor {
  const uint4* quants[C];
  const uint16_t* scales[C];

  /// Columns beyond the last are the last again, and their results are not used.
  __device__ ColumnCursor(const Part& part, int first_column, int chunk) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int64_t column = min(first_column + c, part.columns - 1);
      quants[c] = reinterpret_cast<const uint4*>(part.quants + column * part.column_bytes) + chunk;
      scales[c] = part.scales + column * part.scales_of_column + distance_of<Format>(chunk).scales;
    }
  }
  __device__ Bytes16 chunk(int c, Distance distance) const {
    const uint4 loaded = load_streaming(quants[c] + distance.chunks);
    return {{loaded.x, loaded.y, loaded.z, loaded.w}};
  }
  __device__ uint16_t scale(int c, Distance distance) const {
    if constexpr (Format::kQuants) {
      return __ldg(scales[c] + distance.scales);
    } else {
      return 0;
    }
  }
  __device__ void advance(Distance distance) {
#pragma unroll
    for (int c = 0; c < C; ++c) {
      quants[c] += distance.chunks;
      scales[c] += distance.scales;
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
#pragma unroll
    for (int t = 0; t < T; ++t) {
      const int64_t row = min(first_token + t, input.tokens - 1);
      vectors[t] = reinterpret_cast<const Bytes16*>(input.values + row * input.value_bytes) +
                   chunk * Format::kVectors;
      scales[t] = input.scales + row * input.scales_of_row + distance_of<Format>(chunk).scales;
    }
  }
  __device__ InputChunk<Format::kVectors> get(int t, Distance distance) const {
    InputChunk<Format::kVectors> x{};
#pragma unroll
    for (int v = 0; v < Format::kVectors; ++v)
      x.vectors[v] = vectors[t][distance.chunks * Format::kVectors + v];
    if constexpr (Format::kQuants) x.scale = scales[t][distance.scales];
    return x;
  }
  __device__ void advance(Distance distance) {
#pragma unroll
    for (int t = 0; t < T; ++t) {
      vectors[t] += distance.chunks * Format::kVectors;
      scales[t] += distance.scales;
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
  Bytes16 vectors[S::kTileRows][S::kTokens][Format::kVectors][kLanes];
  float scales[Format::kQuants ? S::kTileRows : 1][Format::kQuants ? S::kTokens : 1][kLanes];

  __device__ void set(int row, int token, int lane, const InputChunk<Format::kVectors>& x) {
#pragma unroll
    for (int v = 0; v < Format::kVectors; ++v) vectors[row][token][v][lane] = x.vectors[v];
    if constexpr (Format::kQuants) scales[row][token][lane] = x.scale;
  }
  __device__ InputChunk<Format::kVectors> get(int row, int token, int lane) const {
    InputChunk<Format::kVectors> x{};
#pragma unroll
    for (int v = 0; v < Format::kVectors; ++v) x.vectors[v] = vectors[row][token][v][lane];
    if constexpr (Format::kQuants) x.scale = scales[row][token][lane];
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
    InputChunk<Format::kVectors> x{};
    if (chunk < chunks)
      x = input.ragged ? load_ragged_input<Format>(input, token, chunk)
                       : InputCursor<Format, 1>(input, token, chunk).get(0, {0, 0});
    tile.set(row, token, lane, x);
  }
}

/// Adds kRows rows, from the lane's `chunk` on, where its cursor is, to the lane's sums [column,
/// token]. Not kWhole: chunks beyond the column's last count nothing. `input(r, distance, t)` is
/// what the r-th row's chunk meets.
///
/// There is no branch between the loads and their use, or the compiler would move each load to its
/// use, and one at a time would be in flight.
template <class Format, class S, bool kWhole, class Input>
__device__ void multiply_chunks(const ColumnCursor<Format, S::kColumns>& columns, int chunk,
                                int chunks, const Input& input, float (&sums)[S::kValues]) {
  Bytes16 bytes[S::kRows][S::kColumns];
  uint16_t scales[S::kRows][S::kColumns];
  Distance distances[S::kRows];
#pragma unroll
  for (int r = 0; r < S::kRows; ++r) {
    const bool inside = kWhole || chunk + r * kLanes < chunks;
    distances[r] = distance_of<Format>(r * kLanes);
    if (!inside) distances[r] = {-chunk, -distance_of<Format>(chunk).scales};  // any will do
#pragma unroll
    for (int c = 0; c < S::kColumns; ++c) {
      bytes[r][c] = columns.chunk(c, distances[r]);
      scales[r][c] = columns.scale(c, distances[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < S::kRows; ++r) {
    const bool inside = kWhole || chunk + r * kLanes < chunks;
    typename Format::Weights weights[S::kColumns];
#pragma unroll
    for (int c = 0; c < S::kColumns; ++c)
      weights[c] = Format::decode(inside ? bytes[r][c] : Bytes16{},
                                  inside ? scales[r][c] : static_cast<uint16_t>(0));
#pragma unroll
    for (int t = 0; t < S::kTokens; ++t) {
      const auto x = input(r, distances[r], t);
#pragma unroll
      for (int c = 0; c < S::kColumns; ++c) {
        float& sum = sums[c * S::kTokens + t];
        sum = Format::dot(weights[c], x, sum);
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
