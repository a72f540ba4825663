// For instruction sets without tile registers: what tiles_amx.h has, so that bodies can name it.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

inline constexpr bool kHasTiles = false;

inline constexpr int kTileProducts = 4;
class QuantTiles {
 public:
  QuantTiles(int64_t /*tokens*/, int /*groups*/) {}
};
inline void linear_bf16_tiles(const LinearTile&) {}
inline double tile_peak(ActivationFormat, int64_t /*rounds*/) { return 0; }
