// The formats of a KV cache as vectors see them: how a row is rounded, 16 lanes of a key, vectors
// of a value. What is read is exact in each format (the product of an int8 and an f16 has 18 bits),
// so that attention gives the bits that it gives over the same values in f32. Included by
// isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

/// A format without scales. `Element` loads 16 of its kBytes each, and rounds a row.
template <class Element>
struct PlainKv : Element {
  using Element::kBytes;
  static constexpr int64_t kBlock = kMaxHeadDim;  // all of a row shares the scale of 1
  struct Scale {};
  static int64_t panel_bytes(int64_t head_dim) { return 16 * head_dim * kBytes; }
  static Scale key_scale(const std::byte*, int64_t, int64_t) { return {}; }
  static Vec load16(const std::byte* p, Scale) { return Element::load16(p); }
  /// Row `row` from a panel's first on; vector `vec` of it.
  static const std::byte* value_row(const std::byte* panel, int64_t head_dim, int64_t row) {
    return panel + row * round_up(head_dim, 16) * kBytes;
  }
  static Vec value(const std::byte* row, int64_t vec) {
    return Element::load16(row + 16 * vec * kBytes);
  }
};

struct SingleElement {
  static constexpr int64_t kBytes = 4;
  static Vec load16(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
  static void convert(const float* x, int64_t n, std::byte* out) {
    __builtin_memcpy(out, x, static_cast<size_t>(n) * 4);
  }
};

struct HalfElement {
  static constexpr int64_t kBytes = 2;
  static Vec load16(const std::byte* p) { return load_f16(p); }
  static void convert(const float* x, int64_t n, std::byte* out) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) store_f16(out + 2 * i, load(x + i));
    for (; i < n; ++i) {
      const uint16_t half = f32_to_f16(x[i]);
      __builtin_memcpy(out + 2 * i, &half, 2);
    }
  }
};

struct BrainElement {
  static constexpr int64_t kBytes = 2;
  static Vec load16(const std::byte* p) { return load_bf16(p); }
  static void convert(const float* x, int64_t n, std::byte* out) {
    for (int64_t i = 0; i < n; ++i) {
      const uint16_t bits = f32_to_bf16(x[i]);
      __builtin_memcpy(out + 2 * i, &bits, 2);
    }
  }
};

/// q8_0; head_dim is a multiple of 32.
struct BlockKv {
  static constexpr int64_t kBytes = 1;
  static constexpr int64_t kBlock = kKvBlock;
  using Scale = Vec;
  static int64_t panel_bytes(int64_t head_dim) {
    return 16 * (head_dim + head_dim / kBlock * kKvScaleBytes);
  }
  static Scale key_scale(const std::byte* panel, int64_t head_dim, int64_t block) {
    return load_f16(panel + 16 * (head_dim + block * kKvScaleBytes));
  }
  static Vec load16(const std::byte* p, const Scale& scale) {
    return mul(to_float(load_i8(p)), scale);
  }
  struct Row {
    const std::byte* elements;
    const std::byte* scales;
  };
  static Row value_row(const std::byte* panel, int64_t head_dim, int64_t row) {
    const std::byte* at = panel + row / 16 * panel_bytes(head_dim);
    return {at + row % 16 * head_dim,
            at + 16 * head_dim + row % 16 * (head_dim / kBlock * kKvScaleBytes)};
  }
  static Vec value(const Row& row, int64_t vec) {
    return load16(row.elements + 16 * vec, broadcast_f16(row.scales + vec / 2 * kKvScaleBytes));
  }
  static void convert(const float* x, int64_t n, std::byte* out) {
    for (int64_t block = 0; block < n / kBlock; ++block) {
      int8_t* q = reinterpret_cast<int8_t*>(out) + kBlock * block;
      const uint16_t half = f32_to_f16(quantize_block(x + kBlock * block, q).scale);
      __builtin_memcpy(out + n + block * kKvScaleBytes, &half, sizeof half);
    }
  }
};

/// Calls f with an object of the format's type.
template <class Function>
void with_kv_format(DType dtype, const Function& f) {
  switch (dtype) {
    case DType::kF32:
      return f(PlainKv<SingleElement>());
    case DType::kBF16:
      return f(PlainKv<BrainElement>());
    case DType::kQ8_0:
      return f(BlockKv());
    default:
      return f(PlainKv<HalfElement>());
  }
}

inline void convert(DType kv_dtype, const float* x, int64_t n, std::byte* out) {
  with_kv_format(kv_dtype, [&](auto format) { decltype(format)::convert(x, n, out); });
}
