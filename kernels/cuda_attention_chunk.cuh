// Attention of one chunk of 256 positions for a few query rows of a kv head: what a block of
// attend_chunk() does. Included by cuda_attention.cu only.
//
// Order of summation, the same for every grid, tile and number of tokens: a score sums head_dim in
// 16 interleaved runs, then over these in a tree; l sums positions in 32 interleaved runs, then in
// a tree; an element of o sums positions interleaved in 2048 / value_stride runs, then these in
// order. Positions that a row does not see add zeros. All products are fmaf(), so that no instance
// of a template contracts otherwise than another.
#pragma once

#include "kernels/cuda_attention_tile.cuh"
#include "kernels/kernel_set.h"

namespace tandem::cuda {

/// One block's work. kHeadDim = 0: known at run time only, at most kMaxHeadDim.
template <class Kv, int kHeadDim, int kRows>
struct ChunkBlock {
  static constexpr int kDims = kHeadDim > 0 ? kHeadDim : static_cast<int>(kMaxHeadDim);
  // A thread keeps kInFlight loads in flight: of keys kDepth batches of kSteps, of values one
  // batch. Eight rows leave registers for half as many, and are bound by arithmetic anyway.
  static constexpr int kInFlight = kRows < 8 ? Kv::kInFlight : Kv::kInFlight / 2;
  static constexpr int kSteps =
      kHeadDim > 0 && kHeadDim / 16 < kInFlight ? kHeadDim / 16 : kInFlight;
  static constexpr int kDepth = kInFlight / kSteps;
  static constexpr int kQueries = (kRows * kDims + kThreads - 1) / kThreads;
  using BlockTile = ChunkTile<kDims, kRows>;
  using Eight = typename Kv::Eight;

  const DevicePart& part;
  BlockTile& tile;
  int thread;
  int lane;
  int warp;
  int head;  ///< counted from the part's first
  int first_row;
  int past;
  int begin;         ///< position of the chunk's first row
  Positions cached;  ///< cached positions of the chunk that are seen
  Positions fresh;   ///< positions of the chunk that new tokens can have
  int slots;         ///< positions whose values are read side by side
  int slot;          ///< of this thread, >= slots: idle

  __device__ int head_dim() const { return kHeadDim > 0 ? kHeadDim : part.head_dim; }
  __device__ bool has_fresh() const { return size(fresh) > 0; }
  /// The step buffer's row of token 0.
  __device__ int lead() const { return past & 15; }

  // --- keys: a warp takes a panel of 16 positions, a lane eight of them and every 16th element

  /// Batches of loads that a lane makes of a panel.
  __device__ int batches_of_panel() const {
    return kHeadDim > 0 ? kHeadDim / (16 * kSteps) : (part.head_dim - 1) / (16 * kSteps) + 1;
  }
  __device__ int cached_panels() const { return (cached.end + 15) / 16; }
  /// Panels of the chunk, then those of the step buffer.
  __device__ int panels() const {
    return cached_panels() + (has_fresh() ? (lead() + part.tokens + 15) / 16 : 0);
  }
  __device__ int panel_of(int batch) const { return warp + kWarps * (batch / batches_of_panel()); }
  __device__ int element_of(int batch, int step) const {
    return (lane >> 1) + 16 * (batch % batches_of_panel() * kSteps + step);
  }
  __device__ bool is_element(int d) const { return kHeadDim > 0 || d < part.head_dim; }

  /// The panel of a batch; null behind the last.
  __device__ const std::byte* key_panel(int batch) const {
    const int panel = panel_of(batch);
    if (panel >= panels()) return nullptr;
    const bool of_step = panel >= cached_panels();
    const std::byte* keys = of_step ? part.step.keys(head) : part.cache.keys(head);
    const int64_t at =
        of_step ? panel - cached_panels() : ((begin - part.cache.first_position) >> 4) + panel;
    return keys + at * Kv::panel_bytes(head_dim());
  }
  /// Nothing is loaded behind the last panel: what `eight` holds then goes into no score.
  __device__ void load_key(const std::byte* from, int batch, int step, Eight& eight) const {
    const int d = element_of(batch, step);
    if (from != nullptr && is_element(d)) eight = Kv::key(from, d, lane & 1, head_dim());
  }
  __device__ void start_keys(Eight (&loads)[kInFlight]) const {
#pragma unroll
    for (int depth = 0; depth < kDepth; ++depth) {
      const std::byte* from = key_panel(depth);
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
        load_key(from, depth, step, loads[depth * kSteps + step]);
    }
  }

  /// Adds a batch's products to the scores' partial sums, and loads the one kDepth later instead.
  __device__ void add_keys(int batch, Eight* loads, float (&sums)[kRows][8]) const {
    const std::byte* next = key_panel(batch + kDepth);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int d = element_of(batch, step);
      float key[8];
      Kv::unpack(loads[step], key);
      load_key(next, batch + kDepth, step, loads[step]);
      if (!is_element(d)) continue;
      const Floats<kRows> q = tile.q[d];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int e = 0; e < 8; ++e) sums[r][e] = fmaf(key[e], q.x[r], sums[r][e]);
    }
  }

  /// Writes the scores of a panel, each from the lanes' partial sums, and clears these.
  __device__ void finish_panel(int panel, float (&sums)[kRows][8]) const {
    Floats<kRows> scores;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scores.x[r] = sum_over_lanes(sums[r], lane) * part.scale;
#pragma unroll
      for (int e = 0; e < 8; ++e) sums[r][e] = 0;
    }
    if (lane & 2 || panel >= panels()) return;  // two lanes have each sum
    const int in_panel = (lane & 1) * 8 + value_of_lane(lane);
    const int position = 16 * panel + in_panel;
    if (panel >= cached_panels()) {
      tile.fresh[position - 16 * cached_panels()] = scores;
    } else if (position >= cached.begin && position < cached.end) {
      tile.weights[position] = scores;
    }
  }

  __device__ void score(Eight (&loads)[kInFlight]) const {
    float sums[kRows][8] = {};
    for (int first = 0; panel_of(first) < panels(); first += kDepth) {
#pragma unroll
      for (int depth = 0; depth < kDepth; ++depth) {
        const int batch = first + depth;
        add_keys(batch, loads + depth * kSteps, sums);
        if ((batch + 1) % batches_of_panel() == 0) finish_panel(panel_of(batch), sums);
      }
    }
  }

  // --- rows

  __device__ bool has_row(int r) const { return first_row + r < part.rows(); }

  /// Row and element of a thread's i-th query element; unsigned, since that divides by shifting.
  __device__ int query_row(int i) const {
    return static_cast<int>(static_cast<unsigned>(thread + kThreads * i) /
                            static_cast<unsigned>(head_dim()));
  }
  __device__ int query_element(int i) const {
    return static_cast<int>(static_cast<unsigned>(thread + kThreads * i) %
                            static_cast<unsigned>(head_dim()));
  }
  /// A thread's share of the rows' queries, zero where there is no row.
  __device__ void load_queries(float (&q)[kQueries]) const {
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      const int r = query_row(i);
      const bool exists = r < kRows && has_row(r);
      q[i] = exists ? part.q[part.query(head, first_row + r) + query_element(i)] : 0;
    }
  }
  /// Queries and paths of the rows; no position is seen yet.
  __device__ void prepare(const float (&q)[kQueries]) const {
#pragma unroll
    for (int i = 0; i < kQueries; ++i)
      if (query_row(i) < kRows) tile.q[query_element(i)].x[query_row(i)] = q[i];
#pragma unroll
    for (int r = 0; r < kRows; ++r) tile.weights[thread].x[r] = -INFINITY;
    if (has_fresh() && thread < kRows) {
      const int token = has_row(thread) ? part.token(first_row + thread) : 0;
      token_path(part.parents, token, tile.path[thread]);
    }
  }

  /// Scores of new tokens go to the positions that they have on each row's path.
  __device__ void place_fresh() const {
    const int r = thread / kMaxDecodeTokens, depth = thread % kMaxDecodeTokens;
    if (r >= kRows) return;
    const int token = tile.path[r][depth];
    const int position = past + depth - begin;
    if (token < 0 || position < 0 || position >= kChunk) return;
    tile.weights[position].x[r] = tile.fresh[lead() + token].x[r];
  }

  /// Scores become weights, a warp per row.
  __device__ void softmax() const {
    const int r = warp;
    if (r >= kRows) return;
    float scores[kChunk / 32];
    float top = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < kChunk / 32; ++i) {
      scores[i] = tile.weights[lane + 32 * i].x[r];
      top = fmaxf(top, scores[i]);
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, apart));
#pragma unroll
    for (int i = 0; i < kChunk / 32; ++i) {
      const float weight = softmax_weight(scores[i], top);
      tile.weights[lane + 32 * i].x[r] = weight;
      sum += weight;
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(kAllLanes, sum, apart);
    if (lane > 0) return;
    tile.top[r] = top;
    tile.sum[r] = sum;
  }

  // --- values: neighbouring threads take eight elements each of a position, slots take positions

  __device__ int value_stride() const { return kHeadDim > 0 ? kHeadDim : part.value_stride; }
  __device__ int eights() const { return value_stride() / 8; }

  template <class Load>
  __device__ Eight value(const KvHeads& of, int64_t row, Load load) const {
    const int eight = thread - slot * eights();
    return Kv::value(of.values(head), row, eight * 8, value_stride(), load);
  }
  template <class Load>
  __device__ Eight cached_value(int position, Load load) const {
    return value(part.cache, begin - part.cache.first_position + position, load);
  }
  __device__ bool is_seen(int position) const {
    return slot < slots && position >= cached.begin && position < cached.end;
  }

  /// Ahead of a barrier: the memory would have nothing to do while the last warps score.
  __device__ void start_values(Eight (&loads)[kInFlight]) const {
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int position = slot + slots * i;
      loads[i] = Eight{};  // not what is left of keys, which may be NaN
      if (is_seen(position)) loads[i] = cached_value(position, LoadNow());
    }
  }

  __device__ void add_cached_values(Eight (&loads)[kInFlight], float (&o)[kRows][8]) const {
    for (int first = slot; first < cached.end; first += slots * kInFlight) {
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int position = first + slots * i;
        float x[8];
        Kv::unpack(loads[i], x);
        // Nothing is loaded where no position is seen: its weight is zero then.
        const int next = position + slots * kInFlight;
        if (is_seen(next)) loads[i] = cached_value(next, StreamingLoad());
        Floats<kRows> weights{};
        if (position < cached.end) weights = tile.weights[position];
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
          for (int e = 0; e < 8; ++e) o[r][e] = fmaf(weights.x[r], x[e], o[r][e]);
      }
    }
  }

  /// New tokens follow the cached positions; which token has a position depends on the row.
  __device__ void add_fresh_values(float (&o)[kRows][8]) const {
    if (!has_fresh() || slot >= slots) return;
    const int behind = fresh.begin % slots;
    const int first = fresh.begin - behind + slot + (slot < behind ? slots : 0);
    for (int position = first; position < fresh.end; position += slots) {
      const int depth = begin + position - past;
      const Floats<kRows> weights = tile.weights[position];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int token = tile.path[r][depth];
        if (token < 0) continue;
        float x[8];
        Kv::unpack(value(part.step, lead() + token, StreamingLoad()), x);
#pragma unroll
        for (int e = 0; e < 8; ++e) o[r][e] = fmaf(weights.x[r], x[e], o[r][e]);
      }
    }
  }

  // --- states

  __device__ int64_t state_of(const ChunkStates& states, int r) const {
    const int64_t row = head * part.rows() + first_row + r;
    return row * states.chunks + blockIdx.z;
  }

  /// Sums o over the slots and writes four elements at a time.
  __device__ void write_states(const float (&o)[kRows][8], const ChunkStates& states) const {
    constexpr int kPassRows = BlockTile::kPassRows;
#pragma unroll
    for (int pass = 0; pass < kRows; pass += kPassRows) {
      if (pass > 0) __syncthreads();
#pragma unroll
      for (int r = 0; r < kPassRows; ++r)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          tile.partial[r][half][thread] = {o[pass + r][4 * half], o[pass + r][4 * half + 1],
                                           o[pass + r][4 * half + 2], o[pass + r][4 * half + 3]};
      __syncthreads();
      for (int i = thread; i < kPassRows * eights() * 2; i += kThreads) {
        const int r = i / (2 * eights()), quad = i % (2 * eights());
        if (has_row(pass + r)) write_quad(r, quad, state_of(states, pass + r), states);
      }
    }
    if (thread < kRows && has_row(thread))
      states.top_sum[state_of(states, thread)] = make_float2(tile.top[thread], tile.sum[thread]);
  }

  __device__ void write_quad(int r, int quad, int64_t state, const ChunkStates& states) const {
    Floats<4> sum{};
    for (int s = 0; s < slots; ++s) {
      const Floats<4> add = tile.partial[r][quad % 2][s * eights() + quad / 2];
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.x[e] += add.x[e];
    }
    *reinterpret_cast<Floats<4>*>(states.o + state * states.stride + 4 * quad) = sum;
  }
};

}  // namespace tandem::cuda
