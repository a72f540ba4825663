// Element types of weights and caches, with their GGUF block layouts. No arithmetic here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tandem {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS
};

/// What a dtype is called and how it lies in a file.
struct DTypeInfo {
  DType dtype;
  std::string_view name;    ///< as in plans and on the command line: "q4_0"
  uint32_t ggml_type;       ///< type id in a GGUF tensor record
  uint32_t gguf_file_type;  ///< `general.file_type` of a file mostly of this dtype (LLAMA_FTYPE_*)
  int64_t block_size;       ///< elements of a block; a row is a whole number of blocks
  int64_t block_bytes;
};

/// Those after q4_0 are laid out in kernels/format_*.h.
inline constexpr std::array<DTypeInfo, 15> kDTypes{{
    {DType::kF32, "f32", 0, 0, 1, 4},
    {DType::kF16, "f16", 1, 1, 1, 2},
    {DType::kBF16, "bf16", 30, 32, 1, 2},
    {DType::kQ8_0, "q8_0", 8, 7, 32, 34},  // f16 scale, 32 x int8
    {DType::kQ4_0, "q4_0", 2, 2, 32, 18},  // f16 scale, 32 x 4 bit: element i and i+16 share byte i
    {DType::kQ4_1, "q4_1", 3, 3, 32, 20},
    {DType::kQ5_0, "q5_0", 6, 8, 32, 22},
    {DType::kQ5_1, "q5_1", 7, 9, 32, 24},
    {DType::kQ2_K, "q2_k", 10, 10, 256, 84},
    {DType::kQ3_K, "q3_k", 11, 11, 256, 110},
    {DType::kQ4_K, "q4_k", 12, 14, 256, 144},
    {DType::kQ5_K, "q5_k", 13, 16, 256, 176},
    {DType::kQ6_K, "q6_k", 14, 18, 256, 210},
    {DType::kIQ4_NL, "iq4_nl", 20, 25, 32, 18},
    {DType::kIQ4_XS, "iq4_xs", 23, 30, 256, 136},
}};
/// What is profiled where nothing else is asked for.
inline constexpr std::span<const DTypeInfo> kCommonDTypes = std::span(kDTypes).first(5);

constexpr bool is_common(DType dtype) { return static_cast<size_t>(dtype) < kCommonDTypes.size(); }

constexpr const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }
constexpr std::string_view name(DType dtype) { return info(dtype).name; }

constexpr std::optional<DType> parse_dtype(std::string_view text) {
  for (const DTypeInfo& d : kDTypes)
    if (d.name == text) return d.dtype;
  return std::nullopt;
}

constexpr std::optional<DType> dtype_of_ggml_type(uint32_t ggml_type) {
  for (const DTypeInfo& d : kDTypes)
    if (d.ggml_type == ggml_type) return d.dtype;
  return std::nullopt;
}

/// Bytes of one row of `n` elements as a GGUF stores it; `n` is a multiple of the block size.
constexpr int64_t row_bytes(DType dtype, int64_t n) {
  return n / info(dtype).block_size * info(dtype).block_bytes;
}

}  // namespace tandem
