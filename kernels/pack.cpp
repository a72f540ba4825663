// Weight rows from a GGUF's layout to panels of 16 columns, the layout that every CPU kernel set
// reads.
#include <cstring>

#include "kernels/half.h"
#include "kernels/kernel_set.h"
#include "kernels/pack_quants.h"
#include "kernels/range.h"

namespace tandem {
namespace {

/// Two 32-blocks of 16 columns: 64 bytes of scales, then two times `quant_bytes`. An odd last block
/// has a zero pad.
int64_t block_panel_bytes(int64_t k, int64_t quant_bytes) {
  return div_up(k / 32, 2) * (64 + 2 * quant_bytes);
}

/// Elements of `bytes` each, `side` consecutive k of a column side by side, then the next column's.
void pack_elements(const std::byte* const rows[16], int64_t k, int64_t bytes, int64_t side,
                   std::byte* panel) {
  const int64_t run = side * bytes;
  for (int64_t group = 0; group * side < k; ++group) {
    const int64_t left = (k - group * side) * bytes;
    for (int64_t c = 0; c < 16; ++c) {
      std::byte* out = panel + (group * 16 + c) * run;
      if (rows[c] == nullptr || left < run) std::memset(out, 0, static_cast<size_t>(run));
      if (rows[c] != nullptr)
        std::memcpy(out, rows[c] + group * run, static_cast<size_t>(left < run ? left : run));
    }
  }
}

void pack_q8_0(const std::byte* block, int64_t column, std::byte* quants) {
  for (int64_t g = 0; g < 8; ++g) {
    uint32_t quad;
    std::memcpy(&quad, block + 4 * g, 4);
    quad ^= 0x80808080u;  // signed to unsigned with an offset of 128, as VNNI multiplies
    std::memcpy(quants + 64 * g + 4 * column, &quad, 4);
  }
}

/// Byte i of a Q4_0 block holds elements i (low) and i + 16 (high); so do groups g and g + 4 here.
void pack_q4_0(const std::byte* block, int64_t column, std::byte* quants) {
  for (int64_t g = 0; g < 4; ++g) std::memcpy(quants + 64 * g + 4 * column, block + 4 * g, 4);
}

using PackBlock = void (*)(const std::byte* block, int64_t column, std::byte* quants);

void pack_blocks(const std::byte* const rows[16], int64_t k, int64_t block_bytes,
                 int64_t quant_bytes, PackBlock pack, std::byte* panel) {
  const int64_t blocks = k / 32;
  const int64_t stretch_bytes = 64 + 2 * quant_bytes;
  for (int64_t b = 0; b < round_up(blocks, 2); ++b) {
    std::byte* stretch = panel + b / 2 * stretch_bytes;
    std::byte* scales = stretch + b % 2 * 32;
    std::byte* quants = stretch + 64 + b % 2 * quant_bytes;
    for (int64_t c = 0; c < 16; ++c) {
      if (b < blocks && rows[c] != nullptr) {
        const std::byte* block = rows[c] + b * block_bytes;
        std::memcpy(scales + 2 * c, block, 2);
        pack(block + 2, c, quants);
      } else {
        std::memset(scales + 2 * c, 0, 2);
        for (int64_t g = 0; g < quant_bytes / 64; ++g) std::memset(quants + 64 * g + 4 * c, 0, 4);
      }
    }
  }
}

}  // namespace

int64_t panel_bytes(DType dtype, int64_t k) {
  switch (dtype) {
    case DType::kF32:
      return 64 * k;
    case DType::kF16:
      return round_up(32 * k, 64);
    case DType::kBF16:
      return 32 * round_up(k, 2);
    case DType::kQ8_0:
      return block_panel_bytes(k, 512);
    case DType::kQ4_0:
      return block_panel_bytes(k, 256);
    default:
      break;
  }
  return quant_panel_bytes(dtype, k);
}

void pack_panel(DType dtype, const std::byte* const rows[16], int64_t k, std::byte* panel) {
  switch (dtype) {
    case DType::kF32:
      return pack_elements(rows, k, 4, 1, panel);
    case DType::kF16:
      return pack_elements(rows, k, 2, 1, panel);
    case DType::kBF16:
      return pack_elements(rows, k, 2, 2, panel);
    case DType::kQ8_0:
      return pack_blocks(rows, k, 34, 512, pack_q8_0, panel);
    case DType::kQ4_0:
      return pack_blocks(rows, k, 18, 256, pack_q4_0, panel);
    default:
      return pack_quant_panel(dtype, rows, k, panel);
  }
}

void dequantize_row(DType dtype, const std::byte* row, int64_t k, float* out) {
  const auto f16_at = [&](int64_t byte) {
    uint16_t bits;
    std::memcpy(&bits, row + byte, 2);
    return bits;
  };
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, row, static_cast<size_t>(k) * 4);
      return;
    case DType::kF16:
      for (int64_t i = 0; i < k; ++i) out[i] = f16_to_f32(f16_at(2 * i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < k; ++i) out[i] = bf16_to_f32(f16_at(2 * i));
      return;
    case DType::kQ8_0:
      for (int64_t i = 0; i < k; ++i) {
        const int64_t block = i / 32 * 34;
        out[i] = f16_to_f32(f16_at(block)) *
                 static_cast<float>(static_cast<int8_t>(row[block + 2 + i % 32]));
      }
      return;
    case DType::kQ4_0:
      for (int64_t i = 0; i < k; ++i) {
        const int64_t block = i / 32 * 18;
        const int byte = static_cast<int>(row[block + 2 + i % 16]);
        const int q = (i % 32 < 16 ? byte & 15 : byte >> 4) - 8;
        out[i] = f16_to_f32(f16_at(block)) * static_cast<float>(q);
      }
      return;
    default:
      return dequantize_quants(dtype, row, k, out);
  }
}

namespace {

/// Where block b of a column lies in a panel of blocks.
struct PanelBlock {
  const std::byte* scale;
  const std::byte* quads;  ///< group g of 4 bytes is at quads + 64 g

  PanelBlock(const std::byte* panel, int64_t quant_bytes, int64_t b, int64_t lane) {
    const std::byte* stretch = panel + b / 2 * (64 + 2 * quant_bytes);
    scale = stretch + b % 2 * 32 + 2 * lane;
    quads = stretch + 64 + b % 2 * quant_bytes + 4 * lane;
  }
};

float scale_of(const PanelBlock& block) {
  uint16_t bits;
  std::memcpy(&bits, block.scale, sizeof bits);
  return f16_to_f32(bits);
}

}  // namespace

void unpack_column(DType dtype, const std::byte* panel, int64_t lane, int64_t k, float* out) {
  const auto bits_at = [&](int64_t element) {
    uint16_t bits;
    std::memcpy(&bits, panel + 2 * element, sizeof bits);
    return bits;
  };
  switch (dtype) {
    case DType::kF32:
      for (int64_t i = 0; i < k; ++i) std::memcpy(out + i, panel + (16 * i + lane) * 4, 4);
      return;
    case DType::kF16:
      for (int64_t i = 0; i < k; ++i) out[i] = f16_to_f32(bits_at(16 * i + lane));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < k; ++i)
        out[i] = bf16_to_f32(bits_at((i / 2 * 16 + lane) * 2 + i % 2));
      return;
    case DType::kQ8_0:
      for (int64_t i = 0; i < k; ++i) {
        const PanelBlock block(panel, 512, i / 32, lane);
        const int quant = static_cast<int>(block.quads[i % 32 / 4 * 64 + i % 4]) - 128;
        out[i] = scale_of(block) * static_cast<float>(quant);
      }
      return;
    case DType::kQ4_0:
      for (int64_t i = 0; i < k; ++i) {
        const PanelBlock block(panel, 256, i / 32, lane);
        const int both = static_cast<int>(block.quads[i % 16 / 4 * 64 + i % 4]);
        const int quant = (i % 32 < 16 ? both & 15 : both >> 4) - 8;
        out[i] = scale_of(block) * static_cast<float>(quant);
      }
      return;
    default:
      return unpack_quant_column(dtype, panel, lane, k, out);
  }
}

}  // namespace tandem
