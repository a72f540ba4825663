// What the CUDA attention kernels compute beside their loads and stores: which positions and chunks
// a part touches, where an element of a KvView lies, which new tokens a token sees, and how softmax
// states merge. For host and device.
#pragma once

#include <math.h>
#include <stdint.h>

#include "kernels/range.h"

namespace tandem {

// Positions are ints here: 64-bit arithmetic costs a GPU several times as much, ahead of the first
// load of every block.

/// Half-open, with end >= begin. Device code cannot call the members of Range.
struct Positions {
  int begin = 0;
  int end = 0;
};
__host__ __device__ static inline int size(Positions positions) {
  return positions.end - positions.begin;
}

/// A range as ints; what exceeds `limit` is cut off.
__host__ __device__ static inline Positions cut_at(Range range, int64_t limit) {
  const int64_t begin = range.begin < limit ? range.begin : limit;
  const int64_t end = range.end < limit ? range.end : limit;
  return {static_cast<int>(begin), static_cast<int>(end > begin ? end : begin)};
}

/// What a part attends after `past` cached positions.
struct PartPositions {
  Positions cached;  ///< of the context, those before `past`
  Positions fresh;   ///< positions that new tokens can have
  Positions chunks;  ///< from the first chunk touched to the last
};

__host__ __device__ static inline PartPositions part_positions(Positions context, bool include_new,
                                                               int past, int tokens) {
  constexpr int kChunk = static_cast<int>(kAttentionChunk);
  PartPositions part;
  const int end = context.end < past ? context.end : past;
  part.cached = {context.begin, end > context.begin ? end : context.begin};
  part.fresh = {past, include_new ? past + tokens : past};
  const bool has_cached = size(part.cached) > 0, has_fresh = size(part.fresh) > 0;
  if (!has_cached && !has_fresh) return part;
  // New positions follow all cached ones.
  const int first = has_cached ? part.cached.begin : part.fresh.begin;
  const int last = has_fresh ? part.fresh.end : part.cached.end;
  part.chunks = {first / kChunk, (last + kChunk - 1) / kChunk};
  return part;
}

/// The most chunks that part_positions() gives for any `past` up to max_context: sizes a grid.
__host__ __device__ static inline int most_chunks(Positions context, bool include_new, int tokens,
                                                  int max_context) {
  constexpr int kChunk = static_cast<int>(kAttentionChunk);
  const int most = size(part_positions(context, include_new, max_context, tokens).chunks);
  if (!include_new) return most;
  // Alone, the new tokens can begin anywhere in a chunk.
  const int touched = (tokens + kChunk - 2) / kChunk + 1;
  const int all = (max_context + tokens + kChunk - 1) / kChunk;
  const int alone = touched < all ? touched : all;
  return alone > most ? alone : most;
}

/// Those of `positions` that lie in a chunk, counted from its begin; {} where there are none.
__host__ __device__ static inline Positions within_chunk(Positions positions, int chunk) {
  constexpr int kChunk = static_cast<int>(kAttentionChunk);
  int begin = positions.begin - chunk * kChunk, end = positions.end - chunk * kChunk;
  if (begin < 0) begin = 0;
  if (end > kChunk) end = kChunk;
  if (end <= begin) return {};
  return {begin, end};
}

/// Tokens between a token and the context; parents = null is a chain.
__host__ __device__ static inline int token_depth(const int32_t* parents, int token) {
  if (parents == nullptr) return token;
  int depth = 0;
  for (int32_t t = parents[token]; t >= 0; t = parents[t]) ++depth;
  return depth;
}

/// path[i] = the token at depth i on the way from the context to `token`, itself last; then -1.
/// kCapacity is more than the depth of any token.
template <int kCapacity>
__host__ __device__ static inline void token_path(const int32_t* parents, int token,
                                                  int (&path)[kCapacity]) {
  int depth = token_depth(parents, token);
  for (int i = 0; i < kCapacity; ++i)
    if (i > depth) path[i] = -1;
  for (int32_t t = token; t >= 0; t = parents == nullptr ? t - 1 : parents[t]) path[depth--] = t;
}

/// A mask of bits [begin, end), of which those in [0, 64) are set.
__host__ __device__ static inline uint64_t bits_between(int64_t begin, int64_t end) {
  if (begin < 0) begin = 0;
  if (end > 64) end = 64;
  if (end <= begin) return 0;
  return (~uint64_t{0} >> (64 - (end - begin))) << begin;
}

/// Bit u - first for every token u in [first, first + 64) that `token` sees: its ancestors and
/// itself.
__host__ __device__ static inline uint64_t path_bits(const int32_t* parents, int64_t token,
                                                     int64_t first) {
  if (parents == nullptr) return bits_between(-first, token + 1 - first);
  uint64_t bits = 0;
  for (int64_t t = token; t >= 0; t = parents[t])
    if (t >= first && t < first + 64) bits |= uint64_t{1} << (t - first);
  return bits;
}

/// e^(x - top) of scores x whose largest is `top`; 0 where x, or all of them, are -infinity. So it
/// is also what the state (o, m, l) counts for in a merge, x = m. (Milakov and Gimelshein 2018, eq.
/// 4)
__host__ __device__ static inline float softmax_weight(float x, float top) {
  return expf(x - (top == -INFINITY ? 0.0f : top));
}

}  // namespace tandem
