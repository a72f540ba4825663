// Merges softmax states: of the chunks of one part, and of the parts of one layer.
#include "kernels/cuda_attention_parts.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_warp.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kInFlight = 32;  ///< context 8192 has 32 chunks: one round of loads

/// States of one row's chunks.
struct ChunksOfRow {
  const float* o;
  const float2* top_sum;
  int stride;

  __device__ float value(int i, int d) const { return o[static_cast<int64_t>(i) * stride + d]; }
  __device__ float2 top_and_sum(int i) const { return top_sum[i]; }
};

/// States of one row that several parts left.
struct PartPointers {
  const float* states[kMaxMergedStates];
};
struct PartsOfRow {
  const PartPointers& parts;
  int64_t at;
  int head_dim;

  /// i < kMaxMergedStates, which g++ does not see and warns of.
  __device__ const float* state(int i) const { return parts.states[i % kMaxMergedStates] + at; }
  __device__ float value(int i, int d) const { return state(i)[d]; }
  __device__ float2 top_and_sum(int i) const {
    return make_float2(state(i)[head_dim], state(i)[head_dim + 1]);
  }
};

/// What the threads of a block share.
struct Tile {
  float tops[kThreads / kLanes];
  float weights[kThreads];
  float sums[kThreads];
};

/// Weights and l of the kThreads states from `first` on.
template <class States>
__device__ void load_weights(const States& states, int count, int first, float top, Tile& tile,
                             int thread) {
  __syncthreads();  // the ones before have been used
  const bool exists = first + thread < count;
  const float2 state = exists ? states.top_and_sum(first + thread) : make_float2(-INFINITY, 0);
  tile.weights[thread] = softmax_weight(state.x, top);
  tile.sums[thread] = state.y;
  __syncthreads();
}

/// The largest of all threads' values, in every thread.
__device__ float block_max(float value, Tile& tile) {
#pragma unroll
  for (int mask = kLanes / 2; mask > 0; mask /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, mask));
  if (lane_of_thread() == 0) tile.tops[warp_of_thread()] = value;
  __syncthreads();
  value = tile.tops[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kLanes; ++warp) value = fmaxf(value, tile.tops[warp]);
  return value;
}

/// Merges `count` states in ascending order, relative to the largest m of all, which does not
/// depend on order: so no state waits for the exponentials of the one before. A thread has one
/// element of o, blockIdx.y says which 128; it reads kInFlight states ahead.
template <class States>
__device__ void merge_row(const States& states, int count, int head_dim, const ResultRows& results,
                          int64_t at) {
  __shared__ Tile tile;
  const int thread = static_cast<int>(threadIdx.x);
  const int d = static_cast<int>(blockIdx.y) * kThreads + thread;
  float values[kInFlight];
#pragma unroll
  for (int j = 0; j < kInFlight; ++j)
    values[j] = d < head_dim && j < count ? states.value(j, d) : 0.0f;
  float top = -INFINITY;
  for (int i = thread; i < count; i += kThreads) top = fmaxf(top, states.top_and_sum(i).x);
  top = block_max(top, tile);

  float o = 0, l = 0;
  for (int first = 0; first < count; first += kInFlight) {
    const int of_tile = first % kThreads;
    if (of_tile == 0) load_weights(states, count, first, top, tile, thread);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {  // weights behind the last state are zero
      const int next = first + kInFlight + j;
      o = fmaf(tile.weights[of_tile + j], values[j], o);
      l = fmaf(tile.weights[of_tile + j], tile.sums[of_tile + j], l);
      values[j] = d < head_dim && next < count ? states.value(next, d) : 0.0f;
    }
  }
  if (d < head_dim) results.put(at + d, results.normalised ? o / l : o);
  if (d == 0 && !results.normalised) {
    results.put(at + head_dim, top);
    results.put(at + head_dim + 1, l);
  }
}

/// Grid: (rows, elements / 128, kv heads).
__global__ void __launch_bounds__(kThreads)
    merge_chunks_of_row(const DevicePart part, const ChunkStates states) {
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.z);
  const Positions chunks =
      part_positions(part.context, part.include_new, part.past(), part.tokens).chunks;
  const int64_t first = static_cast<int64_t>(head * part.rows() + row) * states.chunks;
  const ChunksOfRow of_row{.o = states.o + first * states.stride,
                           .top_sum = states.top_sum + first,
                           .stride = states.stride};
  merge_row(of_row, size(chunks), part.head_dim, part.results, part.result(head, row));
}

/// Grid: (tokens x heads of the part, elements / 128).
__global__ void __launch_bounds__(kThreads)
    merge_parts_of_row(const __grid_constant__ PartPointers parts, const int count,
                       const int first_head, const int heads_here, const int heads,
                       const int head_dim, const ResultRows results) {
  const int64_t token = static_cast<int>(blockIdx.x) / heads_here;
  const int64_t head = first_head + static_cast<int>(blockIdx.x) % heads_here;
  const PartsOfRow of_row{
      .parts = parts, .at = (token * heads + head) * (head_dim + 2), .head_dim = head_dim};
  merge_row(of_row, count, head_dim, results, results.at(token, head));
}

}  // namespace

void merge_chunks(const DevicePart& part, const ChunkStates& states, cudaStream_t stream) {
  launch({.grid = dim3(static_cast<unsigned>(part.rows()),
                       static_cast<unsigned>(div_up(part.head_dim, kThreads)),
                       static_cast<unsigned>(part.num_kv_heads)),
          .block = dim3(kThreads),
          .stream = stream},
         merge_chunks_of_row, part, states);
}

void merge(const MergeLaunch& request, cudaStream_t stream) {
  const MergeArgs& args = request.args;
  const int64_t heads_here = args.kv_heads.size() * args.group;
  if (args.tokens == 0 || heads_here == 0) return;
  if (args.states.size() > kMaxMergedStates)
    throw Error(fmt::format("{} states of one head: at most {} are merged", args.states.size(),
                            kMaxMergedStates));
  PartPointers parts{};
  for (size_t i = 0; i < args.states.size(); ++i) parts.states[i] = args.states[i];
  launch({.grid = dim3(static_cast<unsigned>(args.tokens * heads_here),
                       static_cast<unsigned>(div_up(args.head_dim, kThreads))),
          .block = dim3(kThreads),
          .stream = stream},
         merge_parts_of_row, parts, args.states.size(), args.kv_heads.begin * args.group,
         heads_here, args.q_stride / args.head_dim, args.head_dim, ResultRows(request));
}

}  // namespace tandem::cuda
