// Linears of at most 16 tokens. Each weight is read once, whatever the number of tokens, and that
// is the time they take: bytes / bandwidth. H200: 4.8e12 B/s are 18 bytes a clock and
// multiprocessor, so that there is time for 112 instructions while a warp's 512 bytes arrive. They
// take (counted in SASS, sm_90) for one token 18 (BF16, F16), 11 (Q8_0), 36 (Q4_0); for 16 tokens
// 147 (BF16, F16), 206 (Q8_0), 363 (Q4_0; dot products of bytes counted twice), bound by
// arithmetic.
//
// The order of the sums. A column is cut in spans of 256 chunks of 16 bytes (4 KiB). In a span lane
// i adds up chunks i, i + 32, ..., then the lanes add up in a butterfly. Span s goes to sum s % 4
// in ascending order, and the four sums are added in order. Nothing of this depends on the columns,
// the tokens, the grid or which warp does a span. All that may differ, and does.
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_linear_chunks.cuh"

namespace tandem::cuda {
namespace {

constexpr int kSpanRows = 8;  // a row is one chunk a lane
constexpr int kSpanChunks = kSpanRows * kLanes;
constexpr int kSums = 4;
constexpr int kMaxParts = kMaxLinearsTogether;
constexpr int64_t kEnoughBlocks = 264;  // two a multiprocessor of an H200
constexpr int64_t kFewColumns = 2112;   // less than four warps of four columns a multiprocessor

enum class Finish { kStore, kAdd, kSwiglu, kSwigluOfY };

struct Arguments {
  Part parts[kMaxParts];  ///< of one k
  InputRows input;
  Finish finish;
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
__device__ int block_columns(const Arguments& a) {
  return S::kColumns << a.group_bits;
}

template <class S>
__device__ Role role_of_warp(const Arguments& a) {
  const int columns = block_columns<S>(a), warp = warp_of_thread();
  const int second = warp >> (a.split_bits + a.group_bits);  // of a pair, else 0
  const int group = warp >> a.split_bits & ((1 << a.group_bits) - 1);
  return {.part = a.pair ? second : static_cast<int>(blockIdx.y),
          .first_column = static_cast<int>(blockIdx.x) * columns + group * S::kColumns,
          .slot = second * columns + group * S::kColumns,
          .split = warp & ((1 << a.split_bits) - 1)};
}

__device__ Part part_of(const Arguments& a, int index) {
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
__device__ void multiply(const Arguments& a, const Part& part, const Role& role,
                         BlockSums<S>& sums) {
  constexpr Distance kStep = distance_of<Format>(S::kRows * kLanes);
  for (int span = role.split; span < a.spans; span += 1 << a.split_bits) {
    float values[S::kValues] = {};
    const int first = span * kSpanChunks + lane_of_thread();
    const int end = min((span + 1) * kSpanChunks, a.chunks);
    ColumnCursor<Format, S::kColumns> columns(part, role.first_column, first);
    InputCursor<Format, S::kTokens> input(a.input, 0, first);
    const auto get = [&](int, Distance distance, int t) { return input.get(t, distance); };
    for (int chunk = first; chunk - lane_of_thread() < end; chunk += S::kRows * kLanes) {
      multiply_rows<Format, S>(columns, chunk, a.chunks, get, values);
      columns.advance(kStep);
      input.advance(kStep);
    }
    add_span<S>(values, span, role.slot, sums);
  }
}

/// All spans of a warp's columns, the input through shared memory: the block's warps go together.
template <class Format, class S>
__device__ void multiply_staged(const Arguments& a, const Part& part, const Role& role,
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
        const auto get = [&](int r, Distance, int t) { return tile.get(row + r, t, lane); };
        multiply_rows<Format, S>(columns, first + row * kLanes + lane, a.chunks, get, values);
        columns.advance(kStep);
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
__device__ void finish(const Arguments& a, const Part& part, const BlockSums<S>& sums) {
  const int columns = block_columns<S>(a);
  const int first = static_cast<int>(blockIdx.x) * columns;
  for (int i = static_cast<int>(threadIdx.x); i < columns * a.input.tokens;
       i += static_cast<int>(blockDim.x)) {
    const int slot = i & (columns - 1), token = i / S::kColumns >> a.group_bits;
    if (first + slot >= part.columns) continue;
    const int64_t at = token * part.y_stride + first + slot;
    float value = total<S>(sums, a.spans, slot, token);
    if (a.finish == Finish::kAdd) value = part.y[at] + value;
    if (a.finish == Finish::kSwiglu)
      value = swiglu<DeviceOps>(value, total<S>(sums, a.spans, columns + slot, token));
    if (a.finish == Finish::kSwigluOfY) value = swiglu<DeviceOps>(part.y[at], value);
    part.y[at] = value;
    if (part.shared != nullptr) part.shared[at] = value;
  }
}

/// Grid: (blocks of columns of the widest part, parts).
template <class Format, class S>
__global__ void __launch_bounds__(S::kMaxWarps* kLanes, S::kMinBlocks)
    linear_columns(const Arguments args) {
  __shared__ BlockSums<S> sums;
  const Role role = role_of_warp<S>(args);
  const Part part = part_of(args, role.part);
  if (static_cast<int>(blockIdx.x) * block_columns<S>(args) >= part.columns) return;  // whole block
  if constexpr (S::kStaged) {
    multiply_staged<Format, S>(args, part, role, sums);
  } else {
    multiply<Format, S>(args, part, role, sums);
  }
  __syncthreads();
  finish<S>(args, part_of(args, args.pair ? 0 : role.part), sums);
}

// --- host
// ------------------------------------------------------------------------------------------

Part part(const LinearLaunch& launch) {
  const WeightMatrix& weights = launch.weights;
  assert(weights.columns.contains(launch.columns));
  const int64_t first = launch.columns.begin - weights.columns.begin;
  const int64_t scales = weights.scales == nullptr ? 0 : weights.k / 32;
  return {.quants = weights.quants + first * weights.column_bytes,
          .scales = weights.scales + first * scales,
          .column_bytes = weights.column_bytes,
          .scales_of_column = static_cast<int>(scales),
          .columns = static_cast<int>(launch.columns.size()),
          .y = launch.y + launch.columns.begin,
          .shared = launch.shared == nullptr ? nullptr : launch.shared + launch.columns.begin,
          .y_stride = launch.y_stride};
}

InputRows input_rows(const LinearLaunch& launch) {
  const Prepared& input = launch.input;
  const int64_t k = launch.weights.k;
  const bool quants = wants_quants(launch.weights.dtype);
  return {.values = quants ? reinterpret_cast<const std::byte*>(input.quants)
                           : reinterpret_cast<const std::byte*>(input.x),
          .value_bytes = quants ? k : k * static_cast<int64_t>(sizeof(float)),
          .scales = input.scales,
          .scales_of_row = static_cast<int>(k / 32),
          .tokens = static_cast<int>(launch.tokens),
          .k = static_cast<int>(k),
          .ragged = false};
}

/// Several warps a column where it is long, so that few columns keep a device busy too; and fewer
/// warps a block where there are not enough blocks.
template <class Format, class S>
void launch_columns(Arguments& args, int parts, cudaStream_t stream) {
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

template <class Format>
void launch_format(Arguments& args, int parts, cudaStream_t stream) {
  // Only staging can read such rows. Blocks of 32 are never ragged.
  args.input.ragged = args.input.k % Format::kElements != 0 ||
                      reinterpret_cast<uintptr_t>(args.input.values) % sizeof(Bytes16) != 0;
  const int tokens = args.input.ragged ? std::max(args.input.tokens, 4) : args.input.tokens;
  if (tokens > 8) return launch_columns<Format, Shape<16, 4>>(args, parts, stream);
  if (tokens > 4) return launch_columns<Format, Shape<8, 4>>(args, parts, stream);
  if (tokens > 2) return launch_columns<Format, Shape<4, 4>>(args, parts, stream);
  if (tokens > 1) return launch_columns<Format, Shape<2, 4>>(args, parts, stream);
  // Half as many columns a warp where there would be too few warps.
  int64_t columns = 0;
  for (const Part& p : args.parts) columns += p.columns;
  if (columns < kFewColumns) return launch_columns<Format, Shape<1, 2>>(args, parts, stream);
  launch_columns<Format, Shape<1, 4>>(args, parts, stream);
}

/// Launches of one shape but for the columns, with the same input; those without columns are left
/// out.
void launch_parts(std::span<const LinearLaunch> launches, Finish finish, bool pair,
                  cudaStream_t stream) {
  const LinearLaunch& first = launches[0];
  assert(first.tokens >= 1 && first.tokens <= 16);
  Arguments args{};
  int parts = 0;
  for (const LinearLaunch& launch : launches)
    if (!launch.columns.empty()) args.parts[parts++] = part(launch);
  if (parts == 0) return;
  args.input = input_rows(first);
  args.finish = finish;
  args.pair = pair;
  args.chunks = static_cast<int>(first.weights.column_bytes / sizeof(Bytes16));
  args.spans = static_cast<int>(div_up(args.chunks, kSpanChunks));
  with_format(first.weights.dtype,
              [&](auto format) { launch_format<decltype(format)>(args, parts, stream); });
}

/// Whether one launch can do both.
bool go_together(const LinearLaunch& a, const LinearLaunch& b) {
  const bool same_input =
      wants_quants(a.weights.dtype) ? a.input.quants == b.input.quants : a.input.x == b.input.x;
  return a.weights.dtype == b.weights.dtype && a.weights.k == b.weights.k && same_input &&
         a.tokens == b.tokens && a.add == b.add;
}

}  // namespace

void linear(const LinearLaunch& launch, cudaStream_t stream) {
  linear_together({&launch, 1}, stream);
}

void linear_together(std::span<const LinearLaunch> launches, cudaStream_t stream) {
  assert(!launches.empty() && std::ssize(launches) <= kMaxParts);
  const auto with_first = [&](const LinearLaunch& launch) {
    return go_together(launches[0], launch);
  };
  if (std::all_of(launches.begin(), launches.end(), with_first)) {
    launch_parts(launches, launches[0].add ? Finish::kAdd : Finish::kStore, false, stream);
  } else {
    for (const LinearLaunch& launch : launches) linear(launch, stream);
  }
}

void gate_up(const GateUpLaunch& launch, cudaStream_t stream) {
  const LinearLaunch gate{.weights = launch.gate,
                          .input = launch.gate_input,
                          .tokens = launch.tokens,
                          .columns = launch.columns,
                          .y = launch.h,
                          .y_stride = launch.h_stride};
  LinearLaunch up = gate;
  up.weights = launch.up;
  up.input = launch.up_input;
  LinearLaunch both[] = {gate, up};
  both[0].shared = both[1].shared = launch.shared;
  if (go_together(gate, up)) return launch_parts(both, Finish::kSwiglu, true, stream);
  launch_parts({&gate, 1}, Finish::kStore, false, stream);  // h holds the gates in between
  launch_parts({&both[1], 1}, Finish::kSwigluOfY, false, stream);
}

}  // namespace tandem::cuda
