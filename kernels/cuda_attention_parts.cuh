// What the CUDA attention kernels share on the device: how a part is described to a kernel, and
// where results go. Included by cuda_attention*.cu and cuda_merge.cu only.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_attention_math.h"
#include "kernels/cuda_kernels.cuh"

namespace tandem::cuda {

/// Heads of a KvView, from `first_head` on, in numbers that device code may use.
struct KvHeads {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  int64_t k_head_bytes = 0;
  int64_t v_head_bytes = 0;
  int first_position = 0;

  KvHeads() = default;
  /// A view that is not used may be empty.
  KvHeads(const KvView& view, int64_t first_head) {
    if (view.k == nullptr) return;
    k_head_bytes = view.k_head_bytes();
    v_head_bytes = view.v_head_bytes();
    k = view.k + (first_head - view.kv_heads.begin) * k_head_bytes;
    v = view.v + (first_head - view.kv_heads.begin) * v_head_bytes;
    first_position = static_cast<int>(view.positions.begin);
  }
  /// Of the head that is `head` after the first.
  __device__ const std::byte* keys(int head) const { return k + head * k_head_bytes; }
  __device__ const std::byte* values(int head) const { return v + head * v_head_bytes; }
};

/// Where the result of a (token, query head) goes: o / l, or the state (o, m, l).
struct ResultRows {
  float* own = nullptr;
  float* shared = nullptr;  ///< a second place, or null
  bool normalised = true;
  int64_t token_stride = 0;
  int64_t head_stride = 0;

  /// Of args.out or args.state, whichever is given.
  ResultRows(const AttentionArgs& args, float* also)
      : own(args.out != nullptr ? args.out : args.state),
        shared(also),
        normalised(args.out != nullptr),
        token_stride(normalised ? args.q_stride
                                : args.q_stride / args.head_dim * (args.head_dim + 2)),
        head_stride(normalised ? args.head_dim : args.head_dim + 2) {}
  explicit ResultRows(const MergeLaunch& launch)
      : own(launch.args.out),
        shared(launch.shared),
        token_stride(launch.args.q_stride),
        head_stride(launch.args.head_dim) {}

  __device__ int64_t at(int64_t token, int64_t head) const {
    return token * token_stride + head * head_stride;
  }
  __device__ void put(int64_t i, float x) const {
    own[i] = x;
    if (shared != nullptr) shared[i] = x;
  }
};

/// AttentionLaunch as kernels take it. Heads are counted from the part's first. Row r of a kv head
/// is query head r % group of token r / group.
struct DevicePart {
  int tokens;
  int group;
  int head_dim;
  int value_stride;
  int first_kv_head;
  int num_kv_heads;
  float scale;
  bool include_new;
  const int32_t* parents;
  DeviceValue depth;
  Positions context;
  const float* q;
  int64_t q_stride;
  KvHeads cache;
  KvHeads step;
  ResultRows results;

  explicit DevicePart(const AttentionLaunch& launch)
      : tokens(static_cast<int>(launch.args.tokens)),
        group(static_cast<int>(launch.args.group)),
        head_dim(static_cast<int>(launch.args.head_dim)),
        value_stride(static_cast<int>(round_up(launch.args.head_dim, 16))),
        first_kv_head(static_cast<int>(launch.args.kv_heads.begin)),
        num_kv_heads(static_cast<int>(launch.args.kv_heads.size())),
        scale(launch.args.scale),
        include_new(launch.args.include_new),
        parents(launch.args.parents),
        depth(launch.past),
        context(cut_at(launch.args.context, launch.max_context)),
        q(launch.args.q + first_kv_head * group * head_dim),
        q_stride(launch.args.q_stride),
        cache(launch.args.cache, first_kv_head),
        step(launch.args.step, first_kv_head),
        results(launch.args, launch.shared) {}
  __device__ int past() const { return static_cast<int>(depth.get()); }
  __host__ __device__ int rows() const { return tokens * group; }
  /// One token is the ordinary case, and a division 40 instructions.
  __device__ int token(int row) const { return tokens == 1 ? 0 : row / group; }
  /// Where a row's query begins in q.
  __device__ int64_t query(int head, int row) const {
    const int t = token(row);
    return t * q_stride + (head * group + row - t * group) * head_dim;
  }
  /// Where a row's result begins.
  __device__ int64_t result(int head, int row) const {
    const int t = token(row);
    return results.at(t, (first_kv_head + head) * group + row - t * group);
  }
};

/// Softmax states of single chunks: [kv_heads * rows x chunks], o apart from m and l, so that o is
/// written 16 bytes at a time.
struct ChunkStates {
  float* o = nullptr;         ///< [.. x stride]
  float2* top_sum = nullptr;  ///< m, l
  int chunks = 0;             ///< room for as many
  int stride = 0;             ///< value_stride
};

/// N floats of consecutive rows or elements, moved at once.
template <int N>
struct alignas(N < 4 ? 4 * N : 16) Floats {
  float x[N];
};

/// Steps of more than kMaxDecodeTokens tokens (cuda_attention_prefill.cu).
inline constexpr int kMaxDecodeTokens = static_cast<int>(kTileTokens);
void attend_prefill(const DevicePart& part, DType kv_dtype, cudaStream_t stream);

/// Merges the states of all chunks that a part touches, in ascending order (cuda_merge.cu).
void merge_chunks(const DevicePart& part, const ChunkStates& states, cudaStream_t stream);

}  // namespace tandem::cuda
