// Element-wise arithmetic of the CPU kernels: exponential, norm, activation, preparation of inputs.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

inline constexpr float kInfinity = __builtin_inff();

/// e^x within 2 ulp for x in [-87, 88]; 0 below, which masks a score of -infinity. (Cephes expf)
inline Vec exp(Vec x) {
  const Vec lowest = broadcast(-87.0f);
  const Vec bounded = min(max(x, lowest), broadcast(88.0f));
  const IVec n = round_to_int(mul(bounded, broadcast(1.44269504f)));
  const Vec nf = to_float(n);
  Vec r = sub(bounded, mul(nf, broadcast(0.693359375f)));
  r = sub(r, mul(nf, broadcast(-2.12194440e-4f)));
  Vec p = broadcast(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f})
    p = fma(p, r, broadcast(c));
  p = add(fma(p, mul(r, r), r), broadcast(1.0f));
  return zero_below(scale2(p, n), x, lowest);
}

inline float exp(float x) {
  float lanes[16];
  store(lanes, exp(broadcast(x)));
  return lanes[0];
}

/// The first `n` <= 16 floats of p, the other lanes `fill`.
inline Vec load_first(const float* p, int64_t n, float fill) {
  float lanes[16];
  for (int64_t i = 0; i < 16; ++i) lanes[i] = i < n ? p[i] : fill;
  return load(lanes);
}
inline void store_lanes(float* p, Vec x, int64_t first, int64_t last) {
  float lanes[16];
  store(lanes, x);
  for (int64_t i = first; i < last; ++i) p[i] = lanes[i];
}

inline void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  Vec squares = zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) squares = fma(load(x + i), load(x + i), squares);
  if (i < n) {
    const Vec tail = load_first(x + i, n - i, 0);
    squares = fma(tail, tail, squares);
  }
  const float mean = reduce_add(squares) / static_cast<float>(n);
  const float scale = 1.0f / __builtin_sqrtf(mean + eps);
  for (i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

/// silu(gate) * up, silu(g) = g / (1 + e^-g).
inline Vec swiglu(Vec gate, Vec up) {
  const Vec sigmoid_inverse = add(broadcast(1.0f), exp(sub(zero(), gate)));
  return mul(div(gate, sigmoid_inverse), up);
}
inline void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, swiglu(load(gate + i), load(up + i)));
  if (i < n) {
    const Vec tail = swiglu(load_first(gate + i, n - i, 0), load_first(up + i, n - i, 0));
    store_lanes(out + i, tail, 0, n - i);
  }
}

struct QuantizedBlock {
  float scale;
  HalfSums sums;
};
/// One block of 32 as int8: q = round(x / d), d = max |x| / 127.
inline QuantizedBlock quantize_block(const float* x, int8_t* q) {
  const Vec a = load(x), b = load(x + 16);
  const float top = reduce_max(max(abs(a), abs(b)));
  const float inverse = top > 1e-30f ? 127.0f / top : 0.0f;  // of less it would be infinite
  const IVec qa = round_to_int(mul(a, broadcast(inverse)));
  const IVec qb = round_to_int(mul(b, broadcast(inverse)));
  store_int8(q, qa);
  store_int8(q + 16, qb);
  return {.scale = top / 127.0f,
          .sums = {static_cast<int16_t>(reduce_add(qa)), static_cast<int16_t>(reduce_add(qb))}};
}

inline void prepare(ActivationFormat format, const float* x, int64_t k, void* row) {
  switch (format) {
    case ActivationFormat::kF32:
      __builtin_memcpy(row, x, static_cast<size_t>(k) * 4);
      if (k % 2 != 0) static_cast<float*>(row)[k] = 0;  // BF16 panels go by pairs of k
      return;
    case ActivationFormat::kBF16: {
      uint16_t* out = static_cast<uint16_t*>(row);
      for (int64_t i = 0; i < k; ++i) out[i] = f32_to_bf16(x[i]);
      if (k % 2 != 0) out[k] = 0;
      return;
    }
    case ActivationFormat::kQ8: {
      const Q8Row out = q8_row(static_cast<std::byte*>(row), k);
      for (int64_t b = 0; b < k / 32; ++b) {
        const QuantizedBlock block = quantize_block(x + 32 * b, out.q + 32 * b);
        out.scale[b] = block.scale;
        out.sums[b] = block.sums;
        out.scaled_sum[b] = block.scale * static_cast<float>(block.sums.first + block.sums.last);
      }
      return;
    }
  }
}

inline int64_t argmax(const float* x, int64_t n) {
  Vec top = broadcast(-kInfinity);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) top = max(top, load(x + i));
  if (i < n) top = max(top, load_first(x + i, n - i, -kInfinity));
  const float best = reduce_max(top);
  for (i = 0; i < n; ++i)
    if (x[i] == best) return i;
  return 0;
}

inline uint64_t read(const std::byte* data, int64_t bytes) {
  // One line at a time reads memory fastest (Zen 5, one core, GB/s: 1 line 42, 4 lines 39, 8 lines
  // 35): loads that run far ahead take the fill buffers from the prefetcher.
  uint64_t lanes[8] = {};
#pragma GCC unroll 1
  for (int64_t i = 0; i + 64 <= bytes; i += 64) {
    uint64_t line[8];
    __builtin_memcpy(line, data + i, sizeof line);
    for (int j = 0; j < 8; ++j) lanes[j] += line[j];
  }
  uint64_t sum = 0;
  for (uint64_t lane : lanes) sum += lane;
  return sum;
}
