// Products of small matrices in tile registers (Intel AMX): C [tokens][16 columns] += A [tokens][k]
// x B [k][columns]. A is prepared rows as they lie; B a panel as it lies, whose lines of 4
// consecutive k of 16 columns are what the instructions want. Included by isa_body.cpp only, inside
// the namespace of an instruction set; tests compile it with emulated intrinsics, too.
#pragma once

inline constexpr bool kHasTiles = true;

/// Of a tile register: at most 16 rows of at most 64 bytes.
struct TileShape {
  int64_t rows;
  int64_t row_bytes;
};

/// Tile registers 0, 1, ... of these shapes, for as long as it lives. Setting them takes 200
/// cycles.
class Tiles {
 public:
  template <int N>
  explicit Tiles(const TileShape (&shapes)[N]) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < N; ++i) {
      config.rows[i] = static_cast<uint8_t>(shapes[i].rows);
      config.row_bytes[i] = static_cast<uint16_t>(shapes[i].row_bytes);
    }
    memory_is_read(&config);
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  /// The compiler does not know how much the intrinsics read (GCC 12): all that was written at
  /// `memory` must be there by now.
  static void memory_is_read(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }
};

/// As many products of quants are under way at once.
inline constexpr int kTileProducts = 4;

/// For tile_products() of so many tokens and groups of four quants.
class QuantTiles : Tiles {
 public:
  QuantTiles(int64_t tokens, int groups)
      : Tiles({{tokens, 64},
               {tokens, 64},
               {tokens, 64},
               {tokens, 64},
               {tokens, 4 * groups},
               {groups, 64},
               {tokens, 4 * groups},
               {groups, 64}}) {}
};

/// products[i][token][column]: signed inputs x[i] [tokens][4 groups], rows x_stride bytes apart,
/// times signed weights w[i] [groups][16 columns][4].
template <int T>
void tile_products(const std::byte* const (&x)[kTileProducts], int64_t x_stride,
                   const std::byte* const (&w)[kTileProducts],
                   int32_t (&products)[kTileProducts][T][16]) {
  Tiles::memory_is_read(w[0]);
  _tile_zero(0);
  _tile_loadd(4, x[0], x_stride);
  _tile_loadd(5, w[0], 64);
  _tile_dpbssd(0, 4, 5);
  _tile_zero(1);
  _tile_loadd(6, x[1], x_stride);
  _tile_loadd(7, w[1], 64);
  _tile_dpbssd(1, 6, 7);
  _tile_zero(2);
  _tile_loadd(4, x[2], x_stride);
  _tile_loadd(5, w[2], 64);
  _tile_dpbssd(2, 4, 5);
  _tile_zero(3);
  _tile_loadd(6, x[3], x_stride);
  _tile_loadd(7, w[3], 64);
  _tile_dpbssd(3, 6, 7);
  _tile_stored(0, products[0], 64);
  _tile_stored(1, products[1], 64);
  _tile_stored(2, products[2], 64);
  _tile_stored(3, products[3], 64);
}

/// BF16 weights, by tiles whatever the number of tokens: vector instructions add in another order.
/// (Of 32 elements, products of even k and of odd k are summed apart, with one rounding each; then
/// their sum is added to the result. Intel's manual, TDPBF16PS, and so does the hardware.)
///
/// Four products at once: of one group of at most 16 tokens and four panels; or of two groups of 16
/// and two panels, which load each weight half as often.
template <int kGroups>
class BF16Tiles : Tiles {
  static_assert(kGroups == 1 || kGroups == 2);

 public:
  static constexpr int kPanels = 4 / kGroups;

  explicit BF16Tiles(const LinearTile& tile)
      : Tiles({{group_of(tile), 64},
               {group_of(tile), 64},
               {group_of(tile), 64},
               {group_of(tile), 64},
               {group_of(tile), 64},
               {16, 64},
               {16, 64},
               {16, 64}}),
        tile_(tile),
        tokens_(group_of(tile)),
        panel_bytes_(panel_bytes(DType::kBF16, tile.k)) {}

  /// kPanels panels from `panel` on, or those that are left: then the last one several times. Where
  /// several groups read the weights, a slice of k at a time: it stays in the L1 meanwhile.
  void multiply(int64_t panel) {
    const int64_t steps = (tile_.k + 31) / 32;
    const int64_t slice = tile_.tokens > kGroups * tokens_ ? 8 : steps;
    for (int64_t begin = 0; begin < steps; begin += slice)
      for (int64_t t = 0; t < tile_.tokens; t += kGroups * tokens_)
        multiply(panel, t, begin, begin + slice < steps ? begin + slice : steps);
  }

 private:
  /// Tokens of a group.
  static int64_t group_of(const LinearTile& tile) { return kGroups == 1 ? tile.tokens : 16; }

  /// Elements [32 begin, 32 end) of the groups that begin at `token`.
  void multiply(int64_t first, int64_t token, int64_t begin, int64_t end) {
    const std::byte* panels[kPanels];
    for (int p = 0; p < kPanels; ++p) panels[p] = panel(first + p);
    float* y[4];
    for (int i = 0; i < 4; ++i)
      y[i] = tile_.y + (token + i / kPanels * tokens_) * tile_.y_stride +
             16 * existing(first + i % kPanels);
    const int64_t stride = 4 * tile_.y_stride;
    if (begin == 0) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, y[0], stride);
      _tile_loadd(1, y[1], stride);
      _tile_loadd(2, y[2], stride);
      _tile_loadd(3, y[3], stride);
    }
    const std::byte* x = static_cast<const std::byte*>(tile_.x.base) + token * tile_.x.row_bytes;
    const int64_t whole = tile_.k / 32;
    const AskAhead ask_ahead = token > 0 ? AskAhead::kNever : tile_.ask_ahead;
    for (int64_t i = begin; i < end && i < whole; ++i) {
      for (const std::byte* panel : panels) fetch_ahead<1024>(ask_ahead, panel + 1024 * i);
      step(x + 64 * i, tile_.x.row_bytes, panels, 1024 * i);
    }
    if (end > whole) {
      pad(x + 64 * whole, panels, whole);
      const std::byte* padded[kPanels];
      for (int p = 0; p < kPanels; ++p) padded[p] = w_[p];
      step(x_[0], 64, padded, 0);
    }
    // Those that are there several times are stored there several times.
    _tile_stored(0, y[0], stride);
    _tile_stored(1, y[1], stride);
    _tile_stored(2, y[2], stride);
    _tile_stored(3, y[3], stride);
  }

  int64_t existing(int64_t panel) const {
    return panel < tile_.num_panels ? panel : tile_.num_panels - 1;
  }
  const std::byte* panel(int64_t i) const { return tile_.panels + existing(i) * panel_bytes_; }

  /// 32 elements of the inputs and of the panels.
  void step(const std::byte* x, int64_t x_stride, const std::byte* const (&w)[kPanels],
            int64_t at) const {
    _tile_loadd(4, x, x_stride);
    if constexpr (kGroups == 1) {
      _tile_loadd(5, w[0] + at, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, w[1] + at, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, w[2] + at, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, w[3] + at, 64);
      _tile_dpbf16ps(3, 4, 5);
    } else {
      _tile_loadd(6, w[0] + at, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w[1] + at, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, x + tokens_ * x_stride, x_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }

  /// The last elements, with zeros up to 32.
  void pad(const std::byte* x, const std::byte* const (&panels)[kPanels], int64_t step) {
    const auto bytes = static_cast<size_t>((tile_.k % 32 + 1) / 2 * 4);
    for (int64_t t = 0; t < kGroups * tokens_; ++t) {
      __builtin_memset(x_[t], 0, 64);
      __builtin_memcpy(x_[t], x + t * tile_.x.row_bytes, bytes);
    }
    for (int p = 0; p < kPanels; ++p) {
      __builtin_memset(w_[p], 0, 1024);
      __builtin_memcpy(w_[p], panels[p] + 1024 * step, 16 * bytes);
    }
    memory_is_read(this);
  }

  const LinearTile& tile_;
  int64_t tokens_;  ///< of a group
  int64_t panel_bytes_;
  alignas(64) std::byte x_[16 * kGroups][64];
  alignas(64) std::byte w_[kPanels][1024];
};

template <int kGroups>
void linear_bf16_groups(const LinearTile& tile) {
  BF16Tiles<kGroups> tiles(tile);
  for (int64_t panel = 0; panel < tile.num_panels; panel += tiles.kPanels) tiles.multiply(panel);
}

inline void linear_bf16_tiles(const LinearTile& tile) {
  const int64_t in_pairs = tile.tokens / 32 * 32;
  if (in_pairs > 0) linear_bf16_groups<2>(tokens_of(tile, 0, in_pairs));
  for (int64_t t = in_pairs; t < tile.tokens; t += 16)
    linear_bf16_groups<1>(tokens_of(tile, t, t + 16 < tile.tokens ? t + 16 : tile.tokens));
}

/// Operations of `rounds` times four products of full tiles that do not wait for each other.
inline double tile_peak(ActivationFormat format, int64_t rounds) {
  const TileShape full{16, 64};
  const Tiles tiles({full, full, full, full, full, full, full, full});
  alignas(64) std::byte zeros[1024] = {};
  Tiles::memory_is_read(zeros);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  const bool int8 = format == ActivationFormat::kQ8;
  for (int64_t i = 0; i < rounds; ++i)
    if (int8) {
      _tile_dpbssd(0, 4, 5);
      _tile_dpbssd(1, 4, 5);
      _tile_dpbssd(2, 4, 5);
      _tile_dpbssd(3, 4, 5);
    } else {
      _tile_dpbf16ps(0, 4, 5);
      _tile_dpbf16ps(1, 4, 5);
      _tile_dpbf16ps(2, 4, 5);
      _tile_dpbf16ps(3, 4, 5);
    }
  return 2.0 * 4 * 16 * 16 * (int8 ? 64 : 32) * static_cast<double>(rounds);
}
