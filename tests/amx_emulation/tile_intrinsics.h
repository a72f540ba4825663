// Intel's tile intrinsics in plain C++, so that kernels/tiles_amx.h runs on any CPU: of a thread's
// eight tile registers, what the manual says each instruction does ("Intel Architecture Instruction
// Set Extensions", AMX). What the hardware faults on ends the program. The compiler is told to
// include this first (tests/CMakeLists.txt).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tandem::tile_emulation {

inline constexpr int kRegisters = 8;

struct Tile {
  int rows = 0, row_bytes = 0;  ///< 0: not configured
  uint8_t data[16][64] = {};
};
inline thread_local Tile tiles[kRegisters];

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tile emulation: %s\n", what);
  std::abort();
}

inline Tile& tile(int i) {
  require(tiles[i].rows > 0, "a tile register is used that has no shape");
  return tiles[i];
}

template <class T>
T element(const Tile& of, int row, int column) {
  T value;
  std::memcpy(&value, of.data[row] + sizeof(T) * static_cast<size_t>(column), sizeof(T));
  return value;
}

/// Shapes of a product C += A x B: rows of C and A, bytes of rows of C and B, and k.
inline void require_product(const Tile& c, const Tile& a, const Tile& b) {
  require(c.rows == a.rows, "C and A have other numbers of rows");
  require(c.row_bytes == b.row_bytes, "C and B have other numbers of columns");
  require(a.row_bytes == 4 * b.rows, "A and B have another k");
}

/// C[m][n] = f(C[m][n], m, n).
template <class T, class Function>
void each_element(Tile& c, const Function& f) {
  for (int m = 0; m < c.rows; ++m)
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      const T value = f(element<T>(c, m, n), m, n);
      std::memcpy(c.data[m] + 4 * n, &value, sizeof value);
    }
}

/// Denormal numbers are zero, as inputs and as results.
inline float flushed(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }
inline float bf16(const Tile& of, int row, int column) {
  const uint32_t bits = uint32_t{element<uint16_t>(of, row, column)} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return flushed(value);
}

}  // namespace tandem::tile_emulation

inline void _tile_loadconfig(const void* config) {
  using namespace tandem::tile_emulation;
  const auto* bytes = static_cast<const uint8_t*>(config);
  require(bytes[0] == 1, "the palette is not 1");
  for (int i = 0; i < kRegisters; ++i) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    require(row_bytes <= 64 && bytes[48 + i] <= 16,
            "a tile register has 16 rows of 64 bytes at most");
    require((row_bytes == 0) == (bytes[48 + i] == 0), "rows without bytes, or bytes without rows");
    tiles[i] = {.rows = bytes[48 + i], .row_bytes = row_bytes};
  }
}
inline void _tile_release() {
  for (auto& tile : tandem::tile_emulation::tiles) tile = {};
}
inline void _tile_zero(int to) {
  auto& tile = tandem::tile_emulation::tile(to);
  std::memset(tile.data, 0, sizeof tile.data);
}
inline void _tile_loadd(int to, const void* from, long stride) {
  auto& tile = tandem::tile_emulation::tile(to);
  std::memset(tile.data, 0, sizeof tile.data);
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(tile.data[row], static_cast<const uint8_t*>(from) + row * stride,
                static_cast<size_t>(tile.row_bytes));
}
inline void _tile_stored(int from, void* to, long stride) {
  const auto& tile = tandem::tile_emulation::tile(from);
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(static_cast<uint8_t*>(to) + row * stride, tile.data[row],
                static_cast<size_t>(tile.row_bytes));
}

/// C += signed bytes of A times signed bytes of B.
inline void _tile_dpbssd(int c, int a, int b) {
  using namespace tandem::tile_emulation;
  const Tile &x = tile(a), &w = tile(b);
  require_product(tile(c), x, w);
  each_element<int32_t>(tile(c), [&](int32_t sum, int m, int n) {
    for (int k = 0; k < w.rows; ++k)
      for (int i = 0; i < 4; ++i)
        sum += element<int8_t>(x, m, 4 * k + i) * element<int8_t>(w, k, 4 * n + i);
    return sum;
  });
}

/// C += pairs of bfloat16: sums of even k and of odd k apart, with one rounding for each product.
inline void _tile_dpbf16ps(int c, int a, int b) {
  using namespace tandem::tile_emulation;
  const Tile &x = tile(a), &w = tile(b);
  require_product(tile(c), x, w);
  each_element<float>(tile(c), [&](float sum, int m, int n) {
    float of[2] = {};
    for (int k = 0; k < w.rows; ++k)
      for (int i = 0; i < 2; ++i)
        of[i] = flushed(std::fma(bf16(x, m, 2 * k + i), bf16(w, k, 2 * n + i), of[i]));
    return flushed(flushed(sum) + flushed(of[0] + of[1]));
  });
}
