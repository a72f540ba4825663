// The CPU kernels of one instruction set, as a table of functions. One body (isa_body.cpp and
// body_*.h) is compiled per ISA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/dtype.h"

namespace tandem {

/// How a kernel wants its input prepared; decided by the weights' dtype and the ISA.
enum class ActivationFormat : uint8_t {
  kF32,   ///< float [k]
  kBF16,  ///< bfloat16 [round_up(k, 2)]
  kQ8,    ///< blocks of 32: int8 [k], float scale [k/32], int16 sums of the first and the last 16
          ///< quants [k/32], and float scale x sum [k/32]
};

inline constexpr ActivationFormat kActivationFormats[] = {
    ActivationFormat::kF32, ActivationFormat::kBF16, ActivationFormat::kQ8};

/// Prepared rows of several tokens, all in one format. Row t starts at base + t * row_bytes.
struct Activations {
  const void* base = nullptr;
  int64_t row_bytes = 0;
  int64_t k = 0;
};

/// Bytes of one prepared row, a multiple of 64.
int64_t activation_row_bytes(ActivationFormat format, int64_t k);

/// How a kernel asks for weights ahead of their use. It changes no result.
enum class AskAhead : uint8_t {
  kNever,  ///< left to the prefetchers; they also read long rows several panels at a time
  kOnce,
  kTwice,  ///< far ahead into the L2, then a little ahead into the L1
};

/// y[t][16 p + lane] for panels [0, panels) x tokens [0, tokens): raw dot products.
struct LinearTile {
  DType dtype = DType::kF32;
  const std::byte* panels = nullptr;
  int64_t num_panels = 0;
  int64_t k = 0;
  Activations x;
  int64_t tokens = 0;
  float* y = nullptr;  ///< [tokens x y_stride]
  int64_t y_stride = 0;
  AskAhead ask_ahead = AskAhead::kOnce;  ///< for one token; more may ask where one does not
};

inline constexpr int64_t kTileTokens = 16;
/// Of any kernel set. (Tiles: enough that the weights of a slice of k are used from the L1.)
inline constexpr int64_t kMostTokensAtOnce = 64;
inline constexpr int64_t kPanelColumns = 16;

/// A run of consecutive key/value rows: positions [begin, end) of a chunk, counted from the chunk's
/// start. Panels are those of KvLayout.
struct KvRun {
  const std::byte* k = nullptr;  ///< the panel that holds position `begin`, lane begin % 16
  const std::byte* v = nullptr;  ///< likewise
  int64_t begin = 0;
  int64_t end = 0;
};

/// Softmax state of `rows` queries over one chunk of at most 256 positions: a cached run, then a
/// new one. Query r sees all cached positions and the first visible_new[r] new ones. Sums run in
/// order of position.
struct AttentionTile {
  DType kv_dtype = DType::kF16;
  int64_t head_dim = 0;
  float scale = 0;
  const float* const* q = nullptr;  ///< [rows] pointers to head_dim floats
  int64_t rows = 0;                 ///< <= kTileRows
  KvRun cached;
  KvRun fresh;
  const int32_t* visible_new = nullptr;  ///< [rows]
  float* scratch = nullptr;              ///< [kAttentionScratchFloats], 64-byte aligned
  float* const* state = nullptr;         ///< [rows] states that the chunk's are merged into
};
inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kMaxHeadDim = 512;
inline constexpr int64_t kAttentionScratchFloats = kTileRows * (256 + kMaxHeadDim + 16);

// A softmax state is head_dim values o (not normalised), then m, then l; empty: o = 0, m =
// -infinity, l = 0.

struct KernelSet {
  std::string_view name;  ///< "avx2"
  ActivationFormat (*format)(DType weights);
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);
  void (*prepare)(ActivationFormat format, const float* x, int64_t k, void* row);
  void (*linear)(const LinearTile& tile);
  int64_t tokens_at_once;  ///< that linear() is best given, at most kMostTokensAtOnce
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
  void (*attention)(const AttentionTile& tile);
  /// The state `from` merged into `into`.
  void (*merge)(const float* from, float* into, int64_t head_dim);
  /// Rounds a row to a KV format: its n elements, then its scales. The same bits in every set.
  void (*convert)(DType kv_dtype, const float* x, int64_t n, std::byte* out);
  int64_t (*argmax)(const float* x, int64_t n);
  /// Read `bytes` once, 64-byte lines, at this ISA's full width; returns a checksum. For bandwidth
  /// probes.
  uint64_t (*read)(const std::byte* data, int64_t bytes);
  /// Multiply-adds on registers and the L1, some for each of `rounds`, as the linear kernels over
  /// inputs of this format do them; returns how many operations they were (2 each). For the peak,
  /// which of kQ8 is that of 8-bit weights: smaller ones may pass it on AVX2, see groups_at_once().
  double (*peak)(ActivationFormat format, int64_t rounds);
};

/// Every kernel set that was compiled in, best first; the generic one is always last.
std::span<const KernelSet* const> compiled_kernel_sets();
/// Those of them this CPU can run.
std::span<const KernelSet* const> kernel_sets();
/// The set named, or the best where name is empty (TANDEM_ISA overrides an empty name). Error if
/// not runnable here.
const KernelSet& kernel_set(std::string_view name);

/// What this CPU reads fastest with.
AskAhead ask_ahead_here();

// Packing is the same for all ISAs (see kPanelColumns): Q8_0, Q4_0 put 4 consecutive k of 16
// columns side by side, BF16 2, F16 and F32 1.
/// Bytes of one panel: 16 columns x k.
int64_t panel_bytes(DType dtype, int64_t k);
/// Sets d of a block of quants, and its minimums' factor so that the values of random quants have
/// mean 0: a block of random bytes is a valid one then.
void set_block_scale(DType dtype, float d, std::byte* block);
/// One row of a GGUF matrix as floats: out [k].
void dequantize_row(DType dtype, const std::byte* row, int64_t k, float* out);
/// Packs 16 rows (null = a zero column) of a GGUF matrix into a panel.
void pack_panel(DType dtype, const std::byte* const rows[16], int64_t k, std::byte* panel);
/// Column `lane` of a panel as floats, the same as dequantize_row() of the row it was packed from:
/// out [k].
void unpack_column(DType dtype, const std::byte* panel, int64_t lane, int64_t k, float* out);

}  // namespace tandem
