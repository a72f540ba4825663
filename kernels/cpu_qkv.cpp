// A CPU unit's QKV stage: heads of q, k and v, normalised, rotated and stored as attention reads
// them.
#include <algorithm>
#include <cstring>

#include "kernels/cpu_device.h"

namespace tandem {

/// Consecutive heads of q, k or v.
struct CpuDevice::QkvHeads {
  enum class Kind { kQuery, kKey, kValue } kind;
  const CpuMatrix& weights;
  const float* bias;  ///< of the whole matrix, or null
  const float* norm;
  Range heads;  ///< in their matrix
};

/// Heads come by the workers' even shares of the kv heads: a share's of q, of k, then of v. So a
/// worker reads few streams of weights, and will mostly attend what it wrote itself, where the kv
/// heads divide evenly.
void CpuDevice::qkv(const QkvArgs& args) {
  using Kind = QkvHeads::Kind;
  const int64_t columns = round_up(args.head_dim, kPanelColumns);
  const int64_t piece = std::max<int64_t>(1, piece_columns(args.input.tokens, 1) / columns);
  const int64_t share = std::max<int64_t>(1, args.kv_heads.size() / team_.size());
  const CpuMatrix &wq = cpu_matrix(args.wq), &wk = cpu_matrix(args.wk), &wv = cpu_matrix(args.wv);
  const auto run = [&](const PreparedInput& input, int worker, Range items) {
    int64_t before = 0;  // items of the shares and matrices before
    for (int64_t kv_head = args.kv_heads.begin; kv_head < args.kv_heads.end; kv_head += share) {
      const Range kv{kv_head, std::min(kv_head + share, args.kv_heads.end)};
      const Range queries{kv.begin * args.group, kv.end * args.group};
      for (const QkvHeads& all : {QkvHeads{Kind::kQuery, wq, args.bq, args.q_norm, queries},
                                  QkvHeads{Kind::kKey, wk, args.bk, args.k_norm, kv},
                                  QkvHeads{Kind::kValue, wv, args.bv, nullptr, kv}}) {
        const Range mine = intersect(items, {before, before + all.heads.size()});
        const int64_t first = all.heads.begin - before;
        before += all.heads.size();
        for (int64_t i = mine.begin; i < mine.end; i += piece) {
          QkvHeads heads = all;
          heads.heads = {first + i, first + std::min(i + piece, mine.end)};
          qkv_heads(args, heads, input, worker);
        }
      }
    }
  };
  for_each_of(args.input, {&wq, &wk, &wv}, args.kv_heads.size() * (args.group + 2), piece, run);
}

void CpuDevice::qkv_heads(const QkvArgs& args, const QkvHeads& of, const PreparedInput& input,
                          int worker) {
  const int64_t d = args.head_dim, columns = round_up(d, kPanelColumns);
  const Range panels = of.weights.panels_of({of.heads.begin * d, of.heads.end * d});
  const int64_t stride = panels.size() * kPanelColumns;
  float* tile = scratch_[static_cast<size_t>(worker)].outputs();
  for (int64_t t = 0; t < args.input.tokens; t += kernels_.tokens_at_once) {
    const Range tokens{t, std::min(t + kernels_.tokens_at_once, args.input.tokens)};
    multiply(input, of.weights, panels, tokens, tile, stride);
    for (int64_t i = 0; i < tokens.size(); ++i)
      for (int64_t head = 0; head < of.heads.size(); ++head)
        store_head(args, of, of.heads.begin + head, t + i, tile + i * stride + head * columns);
  }
}

namespace {

/// Rotates pairs (values[i * stride], values[i * stride + distance]).
template <int kStride>
void rotate_pairs(float* values, int64_t distance, const float* angles, int64_t pairs) {
  for (int64_t i = 0; i < pairs; ++i) {
    float& a = values[i * kStride];
    float& b = values[i * kStride + distance];
    const float c = angles[2 * i], s = angles[2 * i + 1];
    const float rotated = a * c - b * s;
    b = a * s + b * c;
    a = rotated;
  }
}

void rotate(float* values, const QkvArgs& args, int64_t token) {
  const int64_t half = args.rope_dim / 2;
  const float* angles = args.cos_sin + token * args.rope_dim;
  if (args.rope_order == RopeOrder::kNeox)
    rotate_pairs<1>(values, half, angles, half);
  else
    rotate_pairs<2>(values, 1, angles, half);
}

}  // namespace

void CpuDevice::store_head(const QkvArgs& args, const QkvHeads& of, int64_t head, int64_t token,
                           float* values) {
  const int64_t d = args.head_dim;
  if (of.bias != nullptr)
    for (int64_t i = 0; i < d; ++i) values[i] += of.bias[head * d + i];
  if (of.norm != nullptr) kernels_.rms_norm(values, of.norm, args.input.norm_eps, d, values);
  if (of.kind != QkvHeads::Kind::kValue) rotate(values, args, token);
  if (of.kind == QkvHeads::Kind::kQuery) {
    std::memcpy(args.q + token * args.q_stride + head * d, values,
                static_cast<size_t>(d) * sizeof(float));
    return;
  }
  const int64_t row = args.past % kPanelColumns + token;
  const bool key = of.kind == QkvHeads::Kind::kKey;
  store_kv_row(kernels_, args.step.dtype, values, d, key ? args.step.keys() : args.step.values(),
               key ? args.step.key(head, row) : args.step.value(head, row));
}

}  // namespace tandem
