// The kernel of linears of at most 16 tokens, over any format, and its launch. cuda_linear.cu and
// cuda_linear_quants.cu share the formats between them, so that they compile side by side.
//
// The order of the sums. A column is cut in spans of 256 chunks of 16 bytes (4 KiB). In a span lane
// i adds up chunks i, i + 32, ..., then the lanes add up in a butterfly. Span s goes to sum s % 4
// in ascending order, and the four sums are added in order. Nothing of this depends on the columns,
// the tokens, the grid or which warp does a span. All that may differ, and does.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_linear_chunks.cuh"

namespace tandem::cuda {

inline constexpr int kSpanRows = 8;  // a row is one chunk a lane
inline constexpr int kSpanChunks = kSpanRows * kLanes;
inline constexpr int kSums = 4;
inline constexpr int kMaxParts = kMaxLinearsTogether;
inline constexpr int64_t kEnoughBlocks = 264;  // two a multiprocessor of an H200

enum class LinearFinish { kStore, kAdd, kSwiglu, kSwigluOfY };

struct LinearArguments {
  Part parts[kMaxParts];  ///< of one k
  InputRows input;
  LinearFinish finish;
  bool pair;   ///< parts 0 and 1 are gate and up, and a block does the same columns of both
  int chunks;  ///< of a column
  int spans;
  int split_bits;  ///< 2^n warps share a column: the i-th does spans s with s % 2^n = i; n <= 2
  int group_bits;  ///< a block does 2^n times the columns of a warp
};

template <class S>
using BlockSums = float[kSums][S::kMaxColumns][S::kTokens];

/// What a warp does.
struct Role {
  int part;
  int first_column;
  int slot;   ///< of its first column in the block's sums
  int split;  ///< which of its columns' warps it is
};

/// Columns that a block does of each part.
template <class S>
__device__ int block_columns(const LinearArguments& a) {
  return S::kColumns << a.group_bits;
}

template <class S>
__device__ Role role_of_warp(const LinearArguments& a) {
  const int columns = block_columns<S>(a), warp = warp_of_thread();
  const int second = warp >> (a.split_bits + a.group_bits);  // of a pair, else 0
  const int group = warp >> a.split_bits & ((1 << a.group_bits) - 1);
  return {.part = a.pair ? second : static_cast<int>(blockIdx.y),
          .first_column = static_cast<int>(blockIdx.x) * columns + group * S::kColumns,
          .slot = second * columns + group * S::kColumns,
          .split = warp & ((1 << a.split_bits) - 1)};
}

__device__ inline Part part_of(const LinearArguments& a, int index) {
  static_assert(kMaxParts == 3);  // chosen among constants: a run-time index would copy them all
  return index == 0 ? a.parts[0] : index == 1 ? a.parts[1] : a.parts[2];
}

/// Adds a span's sums of a warp's columns to the block's. A value is one lane's alone, so that no
/// barrier is needed between spans.
template <class S>
__device__ void add_span(float (&values)[S::kValues], int span, int slot, BlockSums<S>& sums) {
  constexpr int N = S::kValues;
  constexpr int kOfLane = N > kLanes ? N / kLanes : 1;
  constexpr int kSharers = N < kLanes ? kLanes / N : 1;  // lanes that have the same value
  add_lanes<kLanes / 2, N>(values);
  const int lane = lane_of_thread();
  if (lane % kSharers != 0) return;
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
    const int index = lane / kSharers * kOfLane + i;
    float& sum = sums[span % kSums][slot + index / S::kTokens][index % S::kTokens];
    sum = span < kSums ? values[i] : sum + values[i];
  }
}

/// A warp's spans, the input read from global memory.
template <class Format, class S>
__device__ void multiply_global(const LinearArguments& a, const Part& part, const Role& role,
                                BlockSums<S>& sums) {
  constexpr Distance kStep = distance_of<Format>(S::kRows * kLanes);
  for (int span = role.split; span < a.spans; span += 1 << a.split_bits) {
    float values[S::kValues] = {};
    const int first = span * kSpanChunks + lane_of_thread();
    const int end = min((span + 1) * kSpanChunks, a.chunks);
    ColumnCursor<Format, S::kColumns> columns(part, role.first_column, first);
    InputCursor<Format, S::kTokens> input(a.input, 0, first);
    const auto get = [&](int, const Distance& distance, int t, int sub) {
      return input.get(t, distance, sub);
    };
    for (int chunk = first; chunk - lane_of_thread() < end; chunk += S::kRows * kLanes) {
      multiply_rows<Format, S>(columns, chunk, a.chunks, get, values);
      columns.advance(kStep.weights);
      input.advance(kStep);
    }
    add_span<S>(values, span, role.slot, sums);
  }
}

/// All spans of a warp's columns, the input through shared memory: the block's warps go together.
template <class Format, class S>
__device__ void multiply_staged(const LinearArguments& a, const Part& part, const Role& role,
                                BlockSums<S>& sums) {
  constexpr Distance kStep = distance_of<Format>(S::kRows * kLanes);
  __shared__ Tile<Format, S> tile;
  const int lane = lane_of_thread();
  ColumnCursor<Format, S::kColumns> columns(part, role.first_column, lane);
  for (int span = 0; span < a.spans; ++span) {
    float values[S::kValues] = {};
    const int end = min((span + 1) * kSpanChunks, a.chunks);
    for (int first = span * kSpanChunks; first < end; first += S::kTileRows * kLanes) {
      __syncthreads();  // nobody reads the last tile any more
      stage<Format, S>(a.input, first, a.chunks, tile);
      __syncthreads();
      for (int row = 0; row < S::kTileRows && first + row * kLanes < end; row += S::kRows) {
        const auto get = [&](int r, const Distance&, int t, int sub) {
          return tile.get(row + r, t, sub, lane);
        };
        multiply_rows<Format, S>(columns, first + row * kLanes + lane, a.chunks, get, values);
        columns.advance(kStep.weights);
      }
    }
    add_span<S>(values, span, role.slot, sums);
  }
}

template <class S>
__device__ float total(const BlockSums<S>& sums, int spans, int slot, int token) {
  float sum = sums[0][slot][token];
#pragma unroll
  for (int i = 1; i < kSums; ++i)
    if (i < spans) sum += sums[i][slot][token];
  return sum;
}

/// What becomes of a block's products; neighbouring threads write neighbouring columns, so that
/// exchanged memory is written in few pieces.
template <class S>
__device__ void finish_columns(const LinearArguments& a, const Part& part,
                               const BlockSums<S>& sums) {
  const int columns = block_columns<S>(a);
  const int first = static_cast<int>(blockIdx.x) * columns;
  for (int i = static_cast<int>(threadIdx.x); i < columns * a.input.tokens;
       i += static_cast<int>(blockDim.x)) {
    const int slot = i & (columns - 1), token = i / S::kColumns >> a.group_bits;
    if (first + slot >= part.columns) continue;
    const int64_t at = token * part.y_stride + first + slot;
    float value = total<S>(sums, a.spans, slot, token);
    if (a.finish == LinearFinish::kAdd) value = part.y[at] + value;
    if (a.finish == LinearFinish::kSwiglu)
      value = swiglu<DeviceOps>(value, total<S>(sums, a.spans, columns + slot, token));
    if (a.finish == LinearFinish::kSwigluOfY) value = swiglu<DeviceOps>(part.y[at], value);
    part.y[at] = value;
    if (part.shared != nullptr) part.shared[at] = value;
  }
}

/// Grid: (blocks of columns of the widest part, parts).
template <class Format, class S>
__global__ void __launch_bounds__(S::kMaxWarps* kLanes, S::kMinBlocks)
    linear_columns(const LinearArguments args) {
  __shared__ BlockSums<S> sums;
  const Role role = role_of_warp<S>(args);
  const Part part = part_of(args, role.part);
  if (static_cast<int>(blockIdx.x) * block_columns<S>(args) >= part.columns) return;  // whole block
  if constexpr (S::kStaged) {
    multiply_staged<Format, S>(args, part, role, sums);
  } else {
    multiply_global<Format, S>(args, part, role, sums);
  }
  __syncthreads();
  finish_columns<S>(args, part_of(args, args.pair ? 0 : role.part), sums);
}

// --- host
// ------------------------------------------------------------------------------------------

/// Several warps a column where it is long, so that few columns keep a device busy too; and fewer
/// warps a block where there are not enough blocks.
template <class Format, class S>
void launch_columns(LinearArguments& args, int parts, cudaStream_t stream) {
  const int halves = args.pair ? 2 : 1, rows = parts / halves;
  const int most_split = S::kMaxWarps / halves;
  int64_t widest = 0, grid = 0;
  for (const Part& p : args.parts) widest = std::max<int64_t>(widest, p.columns);
  while (!S::kStaged && 2 << args.split_bits <= std::min({kSums, args.spans, most_split}))
    ++args.split_bits;
  for (args.group_bits = std::countr_zero(static_cast<unsigned>(most_split)) - args.split_bits;;
       --args.group_bits) {
    grid = div_up(widest, S::kColumns << args.group_bits);
    if (grid * rows >= kEnoughBlocks || args.group_bits == 0) break;
  }
  const int threads = halves * kLanes << (args.split_bits + args.group_bits);
  launch({.grid = dim3(static_cast<unsigned>(grid), static_cast<unsigned>(rows)),
          .block = dim3(static_cast<unsigned>(threads)),
          .stream = stream},
         linear_columns<Format, S>, args);
}

/// Launches what is in args.parts, of a format that formats.h lists; nothing of another.
void launch_quants(DType dtype, LinearArguments& args, int parts, cudaStream_t stream);

}  // namespace tandem::cuda
