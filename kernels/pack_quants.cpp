// Panels of the formats that formats.h lists, from the one decoding that each of their files has.
#include "kernels/pack_quants.h"

#include <cstring>

#include "kernels/formats.h"
#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/range.h"

namespace tandem {
namespace {

/// Bits of a quad of one column into planes, where they were 0.
void put_quad(const QuadPlace& place, uint32_t quad, int64_t column, std::byte* planes) {
  for (int i = 0; i < place.count; ++i) {
    const QuadPlace::Part part = place.parts[i];
    std::byte* at = planes + 64 * part.line + 4 * column;
    uint32_t line;
    std::memcpy(&line, at, 4);
    line |= (quad & in_every_byte(part.bits)) << part.shift;
    std::memcpy(at, &line, 4);
    quad >>= part.bits;
  }
}

/// What put_quad() put there.
uint32_t quad_at(const QuadPlace& place, int64_t column, const std::byte* planes) {
  uint32_t quad = 0;
  for (int i = 0, bits = 0; i < place.count; bits += place.parts[i++].bits) {
    const QuadPlace::Part part = place.parts[i];
    uint32_t line;
    std::memcpy(&line, planes + 64 * part.line + 4 * column, 4);
    quad |= (line >> part.shift & in_every_byte(part.bits)) << bits;
  }
  return quad;
}

/// Where sub-block i's scale or minimum lies among their quads.
struct InQuad {
  int quad, shift;
};
InQuad in_quad(int64_t i) { return {static_cast<int>(i / 4), static_cast<int>(8 * (i % 4))}; }

template <class Format>
void pack_quants(const Quants& from, int64_t column, std::byte* planes) {
  for (int g = 0; g < 8; ++g) {
    uint32_t quad;
    std::memcpy(&quad, from.q + 4 * g, 4);
    put_quad(Format::kFormat.quants_place(g), quad, column, planes);
  }
}

template <class Format>
void pack_scales(const Quants& from, int64_t block, int64_t column, std::byte* stretch) {
  constexpr QuantFormat f = Format::kFormat;
  std::memcpy(stretch + f.d_at(block) + 2 * column, &from.d, 2);
  if (f.has_min) std::memcpy(stretch + f.shift_at(block) + 2 * column, &from.shift, 2);
  if (f.superblock == 32) return;
  for (int64_t i = 0; i < 32 / f.sub; ++i) {
    const int64_t sub = block * (32 / f.sub) + i;
    const auto scale = static_cast<uint8_t>(from.scale[i]);
    const uint8_t min = from.min[i];
    if (f.scale_bits == 6) {
      const InQuad at = in_quad(sub);
      std::byte* plane = stretch + f.scales_at(0);
      put_quad(f.scales_place(at.quad), uint32_t{scale} << at.shift, column, plane);
      put_quad(f.minimums_place(at.quad), uint32_t{min} << at.shift, column, plane);
    } else if (f.scale_bits == 4) {
      stretch[f.scales_at(sub) + column] = static_cast<std::byte>(scale | min << 4);
    } else {
      stretch[f.scales_at(sub) + column] = static_cast<std::byte>(scale);
      if (f.has_min) stretch[f.minimums_at(sub) + column] = static_cast<std::byte>(min);
    }
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
  for (int64_t c = 0; c < 16; ++c)
    for (int64_t b = 0; rows[c] != nullptr && b < k / 32; ++b) {
      const Quants quants = decode_quants<Format>(dtype, rows[c], b);
      std::byte* stretch = panel + b / kBlocks * f.stretch_bytes();
      pack_scales<Format>(quants, b % kBlocks, c, stretch);
      pack_quants<Format>(quants, c, stretch + f.quants_at(b % kBlocks));
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
  for (int64_t i = 0; f.superblock > 32 && i < 2; ++i) {
    const int64_t sub = (32 * block + 16 * i) / f.sub;
    if (f.scale_bits == 6) {
      const InQuad at = in_quad(sub);
      const std::byte* plane = stretch + f.scales_at(0);
      out.scale[i] =
          static_cast<int8_t>(quad_at(f.scales_place(at.quad), column, plane) >> at.shift);
      out.min[i] =
          static_cast<uint8_t>(quad_at(f.minimums_place(at.quad), column, plane) >> at.shift);
    } else if (f.scale_bits == 4) {
      const int both = byte_at(stretch + f.scales_at(sub) + column);
      out.scale[i] = static_cast<int8_t>(both & 15);
      out.min[i] = static_cast<uint8_t>(both >> 4);
    } else {
      out.scale[i] = static_cast<int8_t>(stretch[f.scales_at(sub) + column]);
      if (f.has_min)
        out.min[i] = static_cast<uint8_t>(byte_at(stretch + f.minimums_at(sub) + column));
    }
  }
  for (int g = 0; g < 8; ++g) {
    const uint32_t quad = quad_at(f.quants_place(g), column, stretch + f.quants_at(block));
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
