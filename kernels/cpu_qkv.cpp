// A CPU unit's QKV stage: heads of q, k and v, normalised, rotated and stored as attention reads
// them.
#include <algorithm>
#include <cstring>

#include "kernels/cpu_device.h"

namespace tandem {

/// One head of q, k or v.
struct CpuDevice::QkvHead {
  enum class Kind { kQuery, kKey, kValue } kind;
  const PlacedMatrix* weights;
  const float* bias;  ///< of the whole matrix, or null
  const float* norm;
  int64_t index;  ///< head in its matrix
};

void CpuDevice::qkv(const QkvArgs& args) {
  prepare_for(args.input, {args.wq, args.wk, args.wv});
  const int64_t per_kv_head = args.group + 2;
  team_.for_each(args.kv_heads.size() * per_kv_head, 1, [&](int worker, Range items) {
    for (int64_t i = items.begin; i < items.end; ++i) {
      const int64_t kv_head = args.kv_heads.begin + i / per_kv_head;
      const int64_t part = i % per_kv_head;
      using Kind = QkvHead::Kind;
      if (part < args.group) {
        qkv_head(args, {Kind::kQuery, args.wq, args.bq, args.q_norm, kv_head * args.group + part},
                 worker);
      } else if (part == args.group) {
        qkv_head(args, {Kind::kKey, args.wk, args.bk, args.k_norm, kv_head}, worker);
      } else {
        qkv_head(args, {Kind::kValue, args.wv, args.bv, nullptr, kv_head}, worker);
      }
    }
  });
}

void CpuDevice::qkv_head(const QkvArgs& args, const QkvHead& head, int worker) {
  const CpuMatrix& weights = cpu_matrix(head.weights);
  const Range panels =
      weights.panels_of({head.index * args.head_dim, head.index * args.head_dim + args.head_dim});
  const int64_t stride = panels.size() * kPanelColumns;
  float* tile = scratch_[static_cast<size_t>(worker)].outputs();
  for (int64_t t = 0; t < args.input.tokens; t += kernels_.tokens_at_once) {
    const Range tokens{t, std::min(t + kernels_.tokens_at_once, args.input.tokens)};
    multiply(weights, panels, tokens, tile, stride);
    for (int64_t i = 0; i < tokens.size(); ++i) store_head(args, head, t + i, tile + i * stride);
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

void CpuDevice::store_head(const QkvArgs& args, const QkvHead& head, int64_t token, float* values) {
  const int64_t d = args.head_dim;
  if (head.bias != nullptr)
    for (int64_t i = 0; i < d; ++i) values[i] += head.bias[head.index * d + i];
  if (head.norm != nullptr) kernels_.rms_norm(values, head.norm, args.input.norm_eps, d, values);
  if (head.kind != QkvHead::Kind::kValue) rotate(values, args, token);
  if (head.kind == QkvHead::Kind::kQuery) {
    std::memcpy(args.q + token * args.q_stride + head.index * d, values,
                static_cast<size_t>(d) * sizeof(float));
    return;
  }
  const int64_t row = args.past % kPanelColumns + token;
  const bool key = head.kind == QkvHead::Kind::kKey;
  store_kv_row(kernels_, args.step.dtype, values, d, key ? args.step.keys() : args.step.values(),
               key ? args.step.key(head.index, row) : args.step.value(head.index, row));
}

}  // namespace tandem
