// Attention of a few query rows over one chunk of keys and values, and the merge of softmax states.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

/// (Milakov and Gimelshein 2018, eq. 4)
inline void merge(const float* from, float* into, int64_t head_dim) {
  const float m_from = from[head_dim], m_into = into[head_dim];
  if (m_from == -kInfinity) return;
  const float m = m_from > m_into ? m_from : m_into;
  const float a = exp(m_into - m), b = exp(m_from - m);
  for (int64_t i = 0; i < head_dim; ++i) into[i] = into[i] * a + from[i] * b;
  into[head_dim] = m;
  into[head_dim + 1] = into[head_dim + 1] * a + from[head_dim + 1] * b;
}

/// Scores of R rows against P key panels: lanes are positions, so a key is read once for all rows
/// of the group.
template <class Kv, int P, int R>
void score_block(const AttentionTile& tile, const std::byte* panel, int64_t row, Vec (&acc)[P][R]) {
  const int64_t stride = Kv::panel_bytes(tile.head_dim);
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) acc[p][r] = zero();
  for (int64_t first = 0; first < tile.head_dim; first += Kv::kBlock) {
    typename Kv::Scale scale[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
      scale[p] = Kv::key_scale(panel + p * stride, tile.head_dim, first / Kv::kBlock);
    const int64_t end = first + Kv::kBlock < tile.head_dim ? first + Kv::kBlock : tile.head_dim;
    for (int64_t d = first; d < end; ++d)
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const Vec key = Kv::load16(panel + p * stride + 16 * d * Kv::kBytes, scale[p]);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) acc[p][r] = fma(key, broadcast(tile.q[row + r][d]), acc[p][r]);
      }
  }
}

/// Writes scores of one run for rows [row, row + R); rows see positions below their own `end`.
template <class Kv, int P, int R>
void score_panels(const AttentionTile& tile, const KvRun& run, const int64_t (&end)[R], int64_t row,
                  int64_t panel) {
  Vec acc[P][R];
  score_block<Kv, P, R>(tile, run.k + (panel - run.begin / 16) * Kv::panel_bytes(tile.head_dim),
                        row, acc);
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const int64_t position = 16 * (panel + p);
      float* scores = tile.scratch + (row + r) * kAttentionChunk + position;
      const Vec scaled = mul(acc[p][r], broadcast(tile.scale));
      const int64_t first = run.begin > position ? run.begin - position : 0;
      const int64_t last = end[r] - position;
      if (first == 0 && last >= 16) {
        store(scores, scaled);
      } else {
        store_lanes(scores, scaled, first, last < 16 ? last : 16);
      }
    }
}

template <class Kv, int R>
void score_rows(const AttentionTile& tile, const KvRun& run, bool masked, int64_t row) {
  int64_t end[R];
  int64_t furthest = run.begin;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    end[r] = masked ? run.begin + tile.visible_new[row + r] : run.end;
    if (end[r] > furthest) furthest = end[r];
  }
  constexpr int P =
      R >= kQueryRows ? 1 : kQueryRows / R;  // few rows: more panels keep chains in flight
  int64_t panel = run.begin / 16;
  const int64_t last_panel = (furthest + 15) / 16;
  for (; panel + P <= last_panel; panel += P) score_panels<Kv, P, R>(tile, run, end, row, panel);
  for (; panel < last_panel; ++panel) score_panels<Kv, 1, R>(tile, run, end, row, panel);
}

template <class Kv, int Max>
void score_run(const AttentionTile& tile, const KvRun& run, bool masked, int64_t row = 0) {
  if (run.begin >= run.end) return;
  for (; row + Max <= tile.rows; row += Max) score_rows<Kv, Max>(tile, run, masked, row);
  if constexpr (Max > 1) score_run<Kv, Max / 2>(tile, run, masked, row);
}

/// Scores of one row become weights e^(s - m); returns m, and their sum in *l. `n` is a multiple
/// of 16.
inline float softmax_row(float* scores, int64_t n, float* l) {
  Vec top = broadcast(-kInfinity);
  for (int64_t i = 0; i < n; i += 16) top = max(top, load(scores + i));
  const float m = reduce_max(top);
  Vec sum = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const Vec weight = m == -kInfinity ? zero() : exp(sub(load(scores + i), broadcast(m)));
    store(scores + i, weight);
    sum = add(sum, weight);
  }
  *l = reduce_add(sum);
  return m;
}

/// o += weights x values for R rows x V vectors of a head, in order of position.
template <class Kv, int R, int V>
void value_block(const AttentionTile& tile, int64_t row, int64_t vec, float* o, int64_t o_stride) {
  Vec acc[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) acc[r][v] = zero();
  for (const KvRun* run : {&tile.cached, &tile.fresh})
    for (int64_t i = run->begin; i < run->end; ++i) {
      const auto value = Kv::value_row(run->v, tile.head_dim, i - run->begin / 16 * 16);
      Vec x[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) x[v] = Kv::value(value, vec + v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vec weight = broadcast(tile.scratch[(row + r) * kAttentionChunk + i]);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) acc[r][v] = fma(x[v], weight, acc[r][v]);
      }
    }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(o + r * o_stride + 16 * (vec + v), acc[r][v]);
}

template <class Kv, int R, int Max>
void value_vecs(const AttentionTile& tile, int64_t row, float* o, int64_t o_stride,
                int64_t vec = 0) {
  const int64_t vecs = (tile.head_dim + 15) / 16;
  for (; vec + Max <= vecs; vec += Max) value_block<Kv, R, Max>(tile, row, vec, o, o_stride);
  if constexpr (Max > 1) value_vecs<Kv, R, Max / 2>(tile, row, o, o_stride, vec);
}

template <class Kv, int Max>
void value_rows(const AttentionTile& tile, float* o, int64_t o_stride, int64_t row = 0) {
  for (; row + Max <= tile.rows; row += Max)
    value_vecs<Kv, Max, kValueVecs>(tile, row, o + row * o_stride, o_stride);
  if constexpr (Max > 1) value_rows<Kv, Max / 2>(tile, o, o_stride, row);
}

template <class Kv>
void attend(const AttentionTile& tile) {
  const int64_t end = tile.fresh.end > tile.cached.end ? tile.fresh.end : tile.cached.end;
  const int64_t width = round_up(end, 16);
  for (int64_t r = 0; r < tile.rows; ++r)
    for (int64_t i = 0; i < width; ++i) tile.scratch[r * kAttentionChunk + i] = -kInfinity;
  score_run<Kv, kQueryRows>(tile, tile.cached, false);
  score_run<Kv, kQueryRows>(tile, tile.fresh, true);
  float m[kTileRows], l[kTileRows];
  for (int64_t r = 0; r < tile.rows; ++r)
    m[r] = softmax_row(tile.scratch + r * kAttentionChunk, width, &l[r]);
  float* o = tile.scratch + kTileRows * kAttentionChunk;
  const int64_t o_stride = round_up(tile.head_dim, 16) + 16;  // o, then m and l where the pad was
  value_rows<Kv, kValueRows>(tile, o, o_stride);
  for (int64_t r = 0; r < tile.rows; ++r) {
    float* state = o + r * o_stride;
    state[tile.head_dim] = m[r];
    state[tile.head_dim + 1] = l[r];
    merge(state, tile.state[r], tile.head_dim);
  }
}

inline void attention(const AttentionTile& tile) {
  with_kv_format(tile.kv_dtype, [&](auto format) { attend<decltype(format)>(tile); });
}
