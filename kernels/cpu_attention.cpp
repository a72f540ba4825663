// A CPU unit's attention: how parts fall into chunks and row tiles, the merge of states, and rows
// of the KV cache.
#include <algorithm>
#include <cstring>

#include "kernels/cpu_device.h"

namespace tandem {
namespace {

/// Cached positions that a part attends.
Range context_of(const AttentionArgs& args) { return intersect(args.context, {0, args.past}); }

/// Chunks that a part touches: its cached positions and, where it has them, the new ones. At least
/// one, in which a part without positions sees none.
Range chunks_of(const AttentionArgs& args) {
  Range positions = context_of(args);
  if (args.include_new) positions = hull(positions, {args.past, args.past + args.tokens});
  if (positions.empty()) return {0, 1};
  return {positions.begin / kAttentionChunk, div_up(positions.end, kAttentionChunk)};
}

/// Positions of one head of a view as a run within a chunk; row 0 of the view is position `first`.
KvRun run_of(const KvView& view, int64_t kv_head, int64_t first, Range positions, int64_t chunk) {
  if (positions.empty()) return {};
  const int64_t row = positions.begin - first;
  return {.k = view.key_panel(kv_head, row),
          .v = view.value_panel(kv_head, row),
          .begin = positions.begin - chunk * kAttentionChunk,
          .end = positions.end - chunk * kAttentionChunk};
}

void copy_row(const KvView& from, int64_t from_row, const KvView& to, int64_t to_row,
              int64_t kv_head) {
  copy_kv_row(from.keys(), from.key(kv_head, from_row), to.key(kv_head, to_row));
  copy_kv_row(from.values(), from.value(kv_head, from_row), to.value(kv_head, to_row));
}

void clear_state(float* state, int64_t head_dim) {
  std::fill_n(state, head_dim, 0.0f);
  state[head_dim] = -__builtin_inff();
  state[head_dim + 1] = 0;
}

/// o / l.
void normalise(const float* state, int64_t head_dim, float* out) {
  for (int64_t i = 0; i < head_dim; ++i) out[i] = state[i] / state[head_dim + 1];
}

/// Writes the result of a row (token, query head), normalised or as a state.
void deliver(const AttentionArgs& args, int64_t kv_head, int64_t row, const float* state) {
  const int64_t d = args.head_dim;
  const int64_t token = row / args.group;
  const int64_t head = kv_head * args.group + row % args.group;
  if (args.out != nullptr) {
    normalise(state, d, args.out + token * args.q_stride + head * d);
  } else {
    const int64_t heads = args.q_stride / d;
    std::memcpy(args.state + (token * heads + head) * (d + 2), state,
                static_cast<size_t>(d + 2) * sizeof(float));
  }
}

int64_t depth_of(const int32_t* parents, int64_t token) {
  int64_t depth = 0;
  for (int32_t p = parents[token]; p >= 0; p = parents[p]) ++depth;
  return depth;
}

}  // namespace

/// At most kTileRows rows of one kv head with their states. Row r is query head r % group of token
/// r / group.
struct CpuDevice::Tile {
  int64_t kv_head;
  Range rows;
  float* states;  ///< [rows x (head_dim + 2)]
};

/// Merges one chunk into the states of a tile. Row i sees the first seen[i] rows of `step`.
void CpuDevice::attend_tile(const AttentionArgs& args, const Tile& tile, const KvView& step,
                            const int64_t* seen, int64_t chunk, int worker) {
  const Range positions{chunk * kAttentionChunk, (chunk + 1) * kAttentionChunk};
  Range fresh;
  if (args.include_new) {
    const int64_t furthest = *std::max_element(seen, seen + tile.rows.size());
    fresh = intersect({args.past, args.past + furthest}, positions);
  }
  const float* q[kTileRows];
  float* states[kTileRows];
  int32_t visible[kTileRows];
  for (int64_t i = 0; i < tile.rows.size(); ++i) {
    const int64_t row = tile.rows.begin + i;
    const int64_t head = tile.kv_head * args.group + row % args.group;
    q[i] = args.q + row / args.group * args.q_stride + head * args.head_dim;
    states[i] = tile.states + i * (args.head_dim + 2);
    visible[i] = static_cast<int32_t>(
        std::clamp<int64_t>(args.past + seen[i] - fresh.begin, 0, fresh.size()));
  }
  const int64_t step_first = args.past - args.past % kPanelColumns;
  kernels_.attention(
      {.kv_dtype = args.include_new ? step.dtype : args.cache.dtype,
       .head_dim = args.head_dim,
       .scale = args.scale,
       .q = q,
       .rows = tile.rows.size(),
       .cached = run_of(args.cache, tile.kv_head, args.cache.positions.begin,
                        intersect(context_of(args), positions), chunk),
       .fresh = run_of(step, tile.kv_head, step_first, fresh, chunk),
       .visible_new = visible,
       .scratch = reinterpret_cast<float*>(scratch_[static_cast<size_t>(worker)].attention.get()),
       .state = states});
}

void CpuDevice::attend_chunk(const AttentionArgs& args, const Tile& tile, int64_t chunk,
                             int worker) {
  const bool has_new = args.include_new && (chunk + 1) * kAttentionChunk > args.past;
  if (args.parents != nullptr && has_new) return attend_path(args, tile, chunk, worker);
  int64_t seen[kTileRows];
  for (int64_t i = 0; i < tile.rows.size(); ++i) seen[i] = (tile.rows.begin + i) / args.group + 1;
  attend_tile(args, tile, args.step, seen, chunk, worker);
}

/// A chunk with new tokens of a tree: each token's ancestors are gathered in order, so that it
/// computes exactly what it would compute alone at the end of that path.
void CpuDevice::attend_path(const AttentionArgs& args, const Tile& tile, int64_t chunk,
                            int worker) {
  WorkerScratch& scratch = scratch_[static_cast<size_t>(worker)];
  const int64_t lead = args.past % kPanelColumns;
  const int64_t d = args.head_dim;
  for (Range rows{tile.rows.begin, 0}; rows.begin < tile.rows.end; rows.begin = rows.end) {
    const int64_t token = rows.begin / args.group;
    rows.end = std::min(tile.rows.end, (token + 1) * args.group);
    const int64_t depth = depth_of(args.parents, token);
    const KvView path{.dtype = args.step.dtype,
                      .k = scratch.path_k.data(),
                      .v = scratch.path_v.data(),
                      .kv_heads = {tile.kv_head, tile.kv_head + 1},
                      .positions = {0, round_up(lead + depth + 1, kPanelColumns)},
                      .head_dim = d};
    int64_t row = lead + depth;
    for (int64_t t = token; t >= 0; t = args.parents[t])
      copy_row(args.step, lead + t, path, row--, tile.kv_head);
    int64_t seen[kTileRows];
    std::fill_n(seen, rows.size(), depth + 1);
    const Tile alone{tile.kv_head, rows, tile.states + (rows.begin - tile.rows.begin) * (d + 2)};
    attend_tile(args, alone, path, seen, chunk, worker);
  }
}

void CpuDevice::attention(const AttentionArgs& args) {
  reserve({.tokens = args.tokens,
           .k = 0,
           .context = args.past,
           .heads = args.kv_heads.size() * args.group,
           .head_dim = args.head_dim});
  const Range chunks = chunks_of(args);
  if (args.tokens <= kTileTokens) {
    attend_by_chunk(args, chunks);
  } else {
    attend_by_rows(args, chunks);
  }
}

/// Few tokens: a head's chunks are spread over the team, each into states of its own, then merged
/// in ascending order.
void CpuDevice::attend_by_chunk(const AttentionArgs& args, Range chunks) {
  const int64_t state = args.head_dim + 2;
  const int64_t rows = args.tokens * args.group;
  const auto states_of = [&](int64_t head, int64_t chunk) {
    return chunk_states_.data() + (head * chunks.size() + chunk) * rows * state;
  };
  const auto deliver_head = [&](int64_t head, const float* states) {
    for (int64_t row = 0; row < rows; ++row)
      deliver(args, args.kv_heads.begin + head, row, states + row * state);
  };
  team_.for_each(args.kv_heads.size() * chunks.size(), 1, [&](int worker, Range items) {
    for (int64_t i = items.begin; i < items.end; ++i) {
      const int64_t head = i / chunks.size(), chunk = i % chunks.size();
      float* states = states_of(head, chunk);
      for (int64_t row = 0; row < rows; ++row) clear_state(states + row * state, args.head_dim);
      for (int64_t row = 0; row < rows; row += kTileRows) {
        const Tile tile{args.kv_heads.begin + head,
                        {row, std::min(row + kTileRows, rows)},
                        states + row * state};
        attend_chunk(args, tile, chunks.begin + chunk, worker);
      }
      if (chunks.size() == 1) deliver_head(head, states);
    }
  });
  if (chunks.size() == 1) return;
  team_.for_each(args.kv_heads.size(), 1, [&](int, Range heads) {
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      float* merged = states_of(head, 0);
      for (int64_t chunk = 1; chunk < chunks.size(); ++chunk)
        for (int64_t row = 0; row < rows; ++row)
          kernels_.merge(states_of(head, chunk) + row * state, merged + row * state, args.head_dim);
      deliver_head(head, merged);
    }
  });
}

/// Many tokens: tiles of rows are spread over the team, each walking its chunks in ascending order.
void CpuDevice::attend_by_rows(const AttentionArgs& args, Range chunks) {
  const int64_t state = args.head_dim + 2;
  const int64_t rows = args.tokens * args.group;
  const int64_t tiles = div_up(rows, kTileRows);
  team_.for_each(args.kv_heads.size() * tiles, 1, [&](int worker, Range items) {
    for (int64_t i = items.begin; i < items.end; ++i) {
      const int64_t row = i % tiles * kTileRows;
      const Tile tile{args.kv_heads.begin + i / tiles,
                      {row, std::min(row + kTileRows, rows)},
                      scratch_[static_cast<size_t>(worker)].states.data()};
      for (int64_t r = 0; r < tile.rows.size(); ++r)
        clear_state(tile.states + r * state, args.head_dim);
      const int64_t last_token = (tile.rows.end - 1) / args.group;
      for (int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
        const int64_t first_position = chunk * kAttentionChunk;
        if (first_position >= context_of(args).end && first_position > args.past + last_token)
          break;
        attend_chunk(args, tile, chunk, worker);
      }
      for (int64_t r = 0; r < tile.rows.size(); ++r)
        deliver(args, tile.kv_head, tile.rows.begin + r, tile.states + r * state);
    }
  });
}

void CpuDevice::merge(const MergeArgs& args) {
  const int64_t d = args.head_dim;
  const int64_t heads = args.q_stride / d;
  const int64_t first = args.kv_heads.begin * args.group;
  const int64_t count = args.kv_heads.size() * args.group;
  float* merged = scratch_.front().states.data();
  for (int64_t token = 0; token < args.tokens; ++token)
    for (int64_t head = first; head < first + count; ++head) {
      clear_state(merged, d);
      for (const float* states : args.states)
        kernels_.merge(states + (token * heads + head) * (d + 2), merged, d);
      normalise(merged, d, args.out + token * args.q_stride + head * d);
    }
}

void CpuDevice::commit(const CommitArgs& args) {
  const int64_t lead = args.first_position % kPanelColumns;
  const auto commit_to = [&](const KvView& step, const KvView& cache) {
    const Range heads = intersect(step.kv_heads, cache.kv_heads);
    for (int64_t head = heads.begin; head < heads.end; ++head)
      for (size_t i = 0; i < args.rows.size() && args.rows[i] >= 0; ++i) {
        const int64_t position = args.first_position + static_cast<int64_t>(i);
        if (!cache.positions.contains(position)) continue;
        copy_row(step, lead + args.rows[i], cache, position - cache.positions.begin, head);
      }
  };
  team_.for_each(std::ssize(args.caches), 1, [&](int, Range pieces) {
    for (const CommitCache& to :
         args.caches.subspan(static_cast<size_t>(pieces.begin), static_cast<size_t>(pieces.size())))
      commit_to(to.step, to.cache);
  });
}

}  // namespace tandem
