// Panels of the formats that formats.h lists, from the one decoding that each of their files has.
#include "kernels/pack_quants.h"

#include <cstring>

#include "kernels/formats.h"
#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/range.h"

namespace tandem {
namespace {

uint32_t quad_at(const uint8_t* bytes) {
  uint32_t quad;
  std::memcpy(&quad, bytes, 4);
  return quad;
}

/// Lines of planes, the quad of one column in each.
template <int kLines>
struct ColumnOfPlanes {
  uint32_t line[kLines] = {};

  void put(const QuadPlace& place, uint32_t quad) {
#pragma GCC unroll 3
    for (int i = 0; i < place.count; quad >>= place.parts[i++].bits) {
      const QuadPlace::Part part = place.parts[i];
      line[part.line] |= (quad & in_every_byte(part.bits)) << part.shift;
    }
  }
  uint32_t get(const QuadPlace& place) const {
    uint32_t quad = 0;
    for (int i = 0, bits = 0; i < place.count; bits += place.parts[i++].bits) {
      const QuadPlace::Part part = place.parts[i];
      quad |= (line[part.line] >> part.shift & in_every_byte(part.bits)) << bits;
    }
    return quad;
  }

  void load(const std::byte* planes, int64_t column) {
    for (int i = 0; i < kLines; ++i) std::memcpy(&line[i], planes + 64 * i + 4 * column, 4);
  }
  void store(std::byte* planes, int64_t column) const {
    for (int i = 0; i < kLines; ++i) std::memcpy(planes + 64 * i + 4 * column, &line[i], 4);
  }
};
template <class Format>
using QuantColumn = ColumnOfPlanes<Format::kFormat.low_bits + Format::kFormat.high_bits>;

/// A superblock's scales of six bits, and its minimums, of one column.
struct SixBits {
  uint8_t scale[8], min[8];

  void store(std::byte* plane, int64_t column) const {
    ColumnOfPlanes<3> to;
#pragma GCC unroll 2
    for (int g = 0; g < 2; ++g) {
      to.put(QuantFormat::scales_place(g), quad_at(scale + 4 * g));
      to.put(QuantFormat::minimums_place(g), quad_at(min + 4 * g));
    }
    to.store(plane, column);
  }
  void load(const std::byte* plane, int64_t column) {
    ColumnOfPlanes<3> from;
    from.load(plane, column);
    for (int g = 0; g < 2; ++g) {
      const uint32_t scales = from.get(QuantFormat::scales_place(g));
      const uint32_t minimums = from.get(QuantFormat::minimums_place(g));
      std::memcpy(scale + 4 * g, &scales, 4);
      std::memcpy(min + 4 * g, &minimums, 4);
    }
  }
};

template <class Format>
void pack_quants(const Quants& from, int64_t column, std::byte* planes) {
  QuantColumn<Format> to;
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) to.put(Format::kFormat.quants_place(g), quad_at(from.q + 4 * g));
  to.store(planes, column);
}

/// Those of six bits wait in `six` for the superblock's last.
template <class Format>
void pack_scales(const Quants& from, int64_t block, int64_t column, SixBits& six,
                 std::byte* stretch) {
  constexpr QuantFormat f = Format::kFormat;
  std::memcpy(stretch + f.d_at(block) + 2 * column, &from.d, 2);
  if (f.has_min) std::memcpy(stretch + f.shift_at(block) + 2 * column, &from.shift, 2);
  if (f.superblock == 32) return;
  if constexpr (f.scale_bits == 6) {
    six.scale[block] = static_cast<uint8_t>(from.scale[0]);
    six.min[block] = from.min[0];
    if (block == 7) six.store(stretch + f.scales_at(0), column);
    return;
  }
  for (int64_t i = 0; i < 32 / f.sub; ++i) {
    const int64_t sub = block * (32 / f.sub) + i;
    const auto scale = static_cast<std::byte>(from.scale[i]);
    const auto min = static_cast<std::byte>(from.min[i]);
    stretch[f.scales_at(sub) + column] = f.scale_bits == 4 ? scale | min << 4 : scale;
    if (f.has_min && f.scale_bits != 4) stretch[f.minimums_at(sub) + column] = min;
  }
}

template <class Format>
int64_t panel_bytes_of(int64_t k) {
  return div_up(k, Format::kFormat.span()) * Format::kFormat.stretch_bytes();
}

template <class Format>
void pack_panel_of(DType dtype, const std::byte* const rows[16], int64_t k, std::byte* panel) {
  constexpr QuantFormat f = Format::kFormat;
  constexpr int64_t kBlocks = f.span() / 32;
  std::memset(panel, 0, static_cast<size_t>(panel_bytes_of<Format>(k)));
  for (int64_t c = 0; c < 16; ++c) {
    SixBits six;
    for (int64_t b = 0; rows[c] != nullptr && b < k / 32; ++b) {
      const Quants quants = decode_quants<Format>(dtype, rows[c], b);
      std::byte* stretch = panel + b / kBlocks * f.stretch_bytes();
      pack_scales<Format>(quants, b % kBlocks, c, six, stretch);
      pack_quants<Format>(quants, c, stretch + f.quants_at(b % kBlocks));
    }
  }
}

/// The values of 32 quants.
template <class Format>
void dequantize(const Quants& from, float* out) {
  constexpr QuantFormat f = Format::kFormat;
  const float d = f16_to_f32(from.d), shift = f16_to_f32(from.shift);
  for (int i = 0; i < 32; ++i) {
    const int half = i / 16;
    const int value = f.table ? kIq4Values[from.q[i]] : from.q[i] - f.offset;
    out[i] = d * static_cast<float>(from.scale[half]) * static_cast<float>(value);
    if (f.has_min) out[i] += shift * static_cast<float>(from.min[half]);
  }
}

/// What pack_quants() and pack_scales() did, for one column.
template <class Format>
Quants unpack_quants(const std::byte* panel, int64_t b, int64_t column) {
  constexpr QuantFormat f = Format::kFormat;
  constexpr int64_t kBlocks = f.span() / 32;
  const std::byte* stretch = panel + b / kBlocks * f.stretch_bytes();
  const int64_t block = b % kBlocks;
  Quants out;
  out.d = half_at(stretch + f.d_at(block) + 2 * column);
  if (f.has_min) out.shift = half_at(stretch + f.shift_at(block) + 2 * column);
  if constexpr (f.scale_bits == 6) {
    SixBits six;
    six.load(stretch + f.scales_at(0), column);
    out.scale[0] = out.scale[1] = static_cast<int8_t>(six.scale[block]);
    out.min[0] = out.min[1] = six.min[block];
  } else if constexpr (f.superblock > 32) {
    for (int64_t i = 0; i < 2; ++i) {
      const int64_t sub = (32 * block + 16 * i) / f.sub;
      const int scale = byte_at(stretch + f.scales_at(sub) + column);
      const int min = f.scale_bits == 4 ? scale >> 4
                      : f.has_min       ? byte_at(stretch + f.minimums_at(sub) + column)
                                        : 0;
      out.scale[i] = static_cast<int8_t>(f.scale_bits == 4 ? scale & 15 : scale);
      out.min[i] = static_cast<uint8_t>(min);
    }
  }
  QuantColumn<Format> quants;
  quants.load(stretch + f.quants_at(block), column);
  for (int g = 0; g < 8; ++g) {
    const uint32_t quad = quants.get(f.quants_place(g));
    std::memcpy(out.q + 4 * g, &quad, 4);
  }
  return out;
}

}  // namespace

void set_block_scale(DType dtype, float d, std::byte* block) {
  const auto set = [block](int64_t at, float value) {
    const uint16_t half = f32_to_f16(value);
    std::memcpy(block + at, &half, sizeof half);
  };
  if (dtype == DType::kQ8_0 || dtype == DType::kQ4_0) set(0, d);
  with_quant_format(dtype, [&](auto format) {
    using Format = decltype(format);
    constexpr QuantFormat f = Format::kFormat;
    set(Format::kDAt, d);
    if constexpr (f.has_min) {
      // Scales and minimums are as large as each other; the minimums of superblocks are taken away.
      const float mean = 0.5f * static_cast<float>((1 << (f.low_bits + f.high_bits)) - 1);
      set(Format::kShiftAt, f.superblock == 32 ? -mean * d : mean * d);
    }
  });
}

int64_t quant_panel_bytes(DType dtype, int64_t k) {
  int64_t bytes = 0;
  with_quant_format(dtype, [&](auto format) { bytes = panel_bytes_of<decltype(format)>(k); });
  return bytes;
}

void pack_quant_panel(DType dtype, const std::byte* const rows[16], int64_t k, std::byte* panel) {
  with_quant_format(dtype,
                    [&](auto format) { pack_panel_of<decltype(format)>(dtype, rows, k, panel); });
}

void dequantize_quants(DType dtype, const std::byte* row, int64_t k, float* out) {
  with_quant_format(dtype, [&](auto format) {
    using Format = decltype(format);
    for (int64_t b = 0; b < k / 32; ++b)
      dequantize<Format>(decode_quants<Format>(dtype, row, b), out + 32 * b);
  });
}

void unpack_quant_column(DType dtype, const std::byte* panel, int64_t lane, int64_t k, float* out) {
  with_quant_format(dtype, [&](auto format) {
    using Format = decltype(format);
    for (int64_t b = 0; b < k / 32; ++b)
      dequantize<Format>(unpack_quants<Format>(panel, b, lane), out + 32 * b);
  });
}

}  // namespace tandem
