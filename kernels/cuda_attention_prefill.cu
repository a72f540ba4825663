// Attention of many tokens, bound by arithmetic: one block holds the online softmax of 64 query
// rows and walks tiles of 64 positions in ascending order, the cached ones first, then the new
// tokens. (Dao 2023, FlashAttention-2, algorithm 1)
//
// FP32 on the ordinary cores: a thread has 4 x 4 scores and 4 x 8 elements of o, so 16 FMA for
// every 32 bytes read from shared memory. Rows of a block are neighbours, which share a kv head's
// group, so that 16 tokens of group 4 read keys and values once.
#include "kernels/cuda_attention_parts.cuh"
#include "kernels/cuda_kv.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_warp.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 64;              ///< query rows of a block
constexpr int kKeys = 64;              ///< positions of a tile
constexpr int kSlice = 32;             ///< elements of queries and keys that are staged at once
constexpr int kValueKeys = 32;         ///< positions whose values are staged at once
constexpr int kQuads = kRows / 4 + 1;  ///< padded: neighbouring slices fall on other banks

struct Slices {
  Floats<4> q[kSlice][kQuads];  ///< [element][row / 4]
  Floats<4> k[kSlice][kQuads];  ///< [element][position / 4]
};

/// What the threads of a block share. kSlab: elements of o that a block computes.
template <int kSlab>
struct Tile {
  union {
    Slices slices;
    Floats<4> values[kValueKeys][kSlab / 4];  ///< [position][element / 4]
  } stage;
  Floats<4> weights[kRows][kQuads];  ///< [row][position / 4]
  int64_t query[kRows];              ///< where a row's query begins, -1 = no such row
  uint64_t seen[kRows];              ///< bit i: the row sees position i of the tile
};

/// Rows of a view that are attended, of one kv head.
struct KeyRun {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  int begin = 0;
  int end = 0;
  int first_token = -1;  ///< row of token 0, -1: cached rows, which all tokens see
};

template <class Kv, int kSlab>
struct PrefillBlock {
  static constexpr int kQuadsOfO = kSlab / 64;  ///< a thread's quads of elements, 64 apart
  using Eight = typename Kv::Eight;

  const DevicePart& part;
  Tile<kSlab>& tile;
  int thread;
  int head;  ///< counted from the part's first
  int first_row;
  int first_element;  ///< of o
  int x;              ///< of 16 threads along positions and elements
  int y;              ///< of 16 threads along rows, four each
  float o[4][4 * kQuadsOfO] = {};
  float top[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  float sum[4] = {};

  __device__ bool has_row(int row) const { return first_row + row < part.rows(); }

  __device__ void find_queries() const {
    if (thread < kRows)
      tile.query[thread] = has_row(thread) ? part.query(head, first_row + thread) : -1;
  }

  /// Which rows of the tile from `first` on a query row sees.
  __device__ uint64_t seen_by(int row, const KeyRun& run, int first) const {
    if (!has_row(row)) return 0;
    if (run.first_token < 0) return bits_between(run.begin - first, run.end - first);
    return path_bits(part.parents, part.token(first_row + row), first - run.first_token);
  }

  // --- scores

  /// 8 elements x 4 rows a warp and turn: whole sectors are read, all banks are written.
  __device__ void stage_queries(int first_d) const {
    const int warp = thread / 32;
    for (int turn = 0; turn < kSlice * kRows / kThreads; ++turn) {
      const int patch = turn * (kThreads / 32) + warp;
      const int d = patch % 4 * 8 + thread % 8;
      const int row = patch / 4 * 4 + thread / 8 % 4;
      const int64_t at = tile.query[row];
      const bool exists = at >= 0 && first_d + d < part.head_dim;
      tile.stage.slices.q[d][row / 4].x[row % 4] = exists ? part.q[at + first_d + d] : 0;
    }
  }

  /// Eight positions of one element a thread.
  __device__ void stage_keys(const KeyRun& run, int first, int first_d) const {
    const int half = thread % 2, d = thread / 2 % kSlice, panel = thread / (2 * kSlice);
    const int row = first + 16 * panel;
    Eight eight{};
    if (row < run.end && first_d + d < part.head_dim)
      eight = Kv::key(run.k + row / 16 * Kv::panel_bytes(part.head_dim), first_d + d, half,
                      part.head_dim);
    store_eight(eight, tile.stage.slices.k[d][4 * panel + 2 * half],
                tile.stage.slices.k[d][4 * panel + 2 * half + 1]);
  }

  __device__ static void store_eight(const Eight& eight, Floats<4>& low, Floats<4>& high) {
    float x[8];
    Kv::unpack(eight, x);
    low = {x[0], x[1], x[2], x[3]};
    high = {x[4], x[5], x[6], x[7]};
  }

  /// scores[r][k] of rows 4 y + r and positions 4 x + k.
  __device__ void score(const KeyRun& run, int first, float (&scores)[4][4]) const {
    for (int first_d = 0; first_d < part.head_dim; first_d += kSlice) {
      __syncthreads();
      stage_queries(first_d);
      stage_keys(run, first, first_d);
      __syncthreads();
#pragma unroll 8
      for (int d = 0; d < kSlice; ++d) {
        const Floats<4> q = tile.stage.slices.q[d][y], key = tile.stage.slices.k[d][x];
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
          for (int k = 0; k < 4; ++k) scores[r][k] = fmaf(q.x[r], key.x[k], scores[r][k]);
      }
    }
  }

  // --- softmax

  /// Scores of a row become weights e^(score - m), and what was summed under a smaller m shrinks.
  /// The 16 threads of a row are half a warp.
  __device__ void softmax_row(int r, float (&scores)[4]) {
    const uint64_t seen = tile.seen[4 * y + r] >> (4 * x);
    float largest = top[r];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      scores[k] = (seen >> k & 1) != 0 ? scores[k] * part.scale : -INFINITY;
      largest = fmaxf(largest, scores[k]);
    }
#pragma unroll
    for (int apart = 8; apart > 0; apart /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, apart));
    const float shrink = softmax_weight(top[r], largest);
    float added = 0;
    Floats<4> weights;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      weights.x[k] = softmax_weight(scores[k], largest);
      added += weights.x[k];
    }
#pragma unroll
    for (int apart = 8; apart > 0; apart /= 2) added += __shfl_xor_sync(kAllLanes, added, apart);
    tile.weights[4 * y + r][x] = weights;
    top[r] = largest;
    sum[r] = fmaf(sum[r], shrink, added);
#pragma unroll
    for (int e = 0; e < 4 * kQuadsOfO; ++e) o[r][e] *= shrink;
  }

  // --- values

  /// Values of positions that no row may see are zero: their weights are, but memory can hold NaN.
  __device__ void stage_values(const KeyRun& run, int first) const {
    constexpr int kEights = kSlab / 8;
    for (int i = thread; i < kValueKeys * kEights; i += kThreads) {
      const int key = i / kEights, eight_of_slab = i % kEights;
      const int row = first + key;
      const int d = first_element + 8 * eight_of_slab;
      Eight eight{};
      if (row >= run.begin && row < run.end && d < part.value_stride)
        eight = Kv::value(run.v, row, d, part.value_stride, StreamingLoad());
      store_eight(eight, tile.stage.values[key][2 * eight_of_slab],
                  tile.stage.values[key][2 * eight_of_slab + 1]);
    }
  }

  __device__ void add_values(int first_key) {
    for (int quad = 0; quad < kValueKeys / 4; ++quad) {
      Floats<4> weights[4];
#pragma unroll
      for (int r = 0; r < 4; ++r) weights[r] = tile.weights[4 * y + r][first_key / 4 + quad];
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int h = 0; h < kQuadsOfO; ++h) {
          const Floats<4> value = tile.stage.values[4 * quad + k][x + 16 * h];
#pragma unroll
          for (int r = 0; r < 4; ++r)
#pragma unroll
            for (int e = 0; e < 4; ++e)
              o[r][4 * h + e] = fmaf(weights[r].x[k], value.x[e], o[r][4 * h + e]);
        }
    }
  }

  // --- all

  __device__ void attend(const KeyRun& run) {
    for (int first = run.begin / 16 * 16; first < run.end; first += kKeys) {
      // All threads have passed a barrier since they read the last tile's bits.
      if (thread < kRows) tile.seen[thread] = seen_by(thread, run, first);
      float scores[4][4] = {};
      score(run, first, scores);
#pragma unroll
      for (int r = 0; r < 4; ++r) softmax_row(r, scores[r]);
      for (int key = 0; key < kKeys; key += kValueKeys) {
        __syncthreads();
        stage_values(run, first + key);
        __syncthreads();
        add_values(key);
      }
    }
  }

  /// Four elements at once where they lie on 16 bytes, for the sake of the link.
  __device__ static void store_quad(float* out, const Floats<4>& quad, int elements) {
    if (elements == 4 && reinterpret_cast<uintptr_t>(out) % sizeof quad == 0) {
      *reinterpret_cast<Floats<4>*>(out) = quad;
      return;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (e < elements) out[e] = quad.x[e];
  }

  __device__ void deliver() const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int row = 4 * y + r;
      if (!has_row(row)) continue;
      const int64_t at = part.result(head, first_row + row);
      const float divisor = part.results.normalised ? sum[r] : 1;
#pragma unroll
      for (int h = 0; h < kQuadsOfO; ++h) {
        const int d = first_element + 4 * (x + 16 * h);
        Floats<4> quad;
#pragma unroll
        for (int e = 0; e < 4; ++e) quad.x[e] = o[r][4 * h + e] / divisor;
        if (d >= part.head_dim) continue;
        store_quad(part.results.own + at + d, quad, min(4, part.head_dim - d));
        if (part.results.shared != nullptr)
          store_quad(part.results.shared + at + d, quad, min(4, part.head_dim - d));
      }
      if (part.results.normalised || x > 0 || first_element > 0) continue;
      part.results.put(at + part.head_dim, top[r]);
      part.results.put(at + part.head_dim + 1, sum[r]);
    }
  }
};

/// Grid: (tiles of rows, kv heads, slabs of o). The last tiles see most, so they begin first.
template <class Kv, int kSlab>
__global__ void __launch_bounds__(kThreads, 2) attend_rows(const DevicePart part) {
  __shared__ Tile<kSlab> tile;
  const int thread = static_cast<int>(threadIdx.x);
  PrefillBlock<Kv, kSlab> block{.part = part,
                                .tile = tile,
                                .thread = thread,
                                .head = static_cast<int>(blockIdx.y),
                                .first_row = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows,
                                .first_element = static_cast<int>(blockIdx.z) * kSlab,
                                .x = thread % 16,
                                .y = thread / 16};
  block.find_queries();
  const int past = part.past();
  const Positions cached = part_positions(part.context, part.include_new, past, part.tokens).cached;
  if (size(cached) > 0)
    block.attend({.k = part.cache.keys(block.head),
                  .v = part.cache.values(block.head),
                  .begin = cached.begin - part.cache.first_position,
                  .end = cached.end - part.cache.first_position});
  if (part.include_new) {
    const int lead = past % 16;
    const int last_row = min(block.first_row + kRows, part.rows()) - 1;
    // A chain's tokens see none after themselves; a tree's parents may have any numbers.
    const int tokens = part.parents == nullptr ? last_row / part.group + 1 : part.tokens;
    block.attend({.k = part.step.keys(block.head),
                  .v = part.step.values(block.head),
                  .begin = lead,
                  .end = lead + tokens,
                  .first_token = lead});
  }
  block.deliver();
}

template <class Kv, int kSlab>
void launch_rows(const DevicePart& part, cudaStream_t stream) {
  launch({.grid = dim3(static_cast<unsigned>(div_up(part.rows(), kRows)),
                       static_cast<unsigned>(part.num_kv_heads),
                       static_cast<unsigned>(div_up(part.head_dim, kSlab))),
          .block = dim3(kThreads),
          .stream = stream},
         attend_rows<Kv, kSlab>, part);
}

}  // namespace

void attend_prefill(const DevicePart& part, DType kv_dtype, cudaStream_t stream) {
  with_kv_format(kv_dtype, [&](auto format) {
    using Kv = decltype(format);
    if constexpr (Kv::kBytes < 4)  // f32 is seldom asked for
      if (part.head_dim <= 64) return launch_rows<Kv, 64>(part, stream);
    launch_rows<Kv, 128>(part, stream);
  });
}

}  // namespace tandem::cuda
