// Element types of weights and caches, with their GGUF block layouts. No arithmetic here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tandem {

enum class DType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0 };

/// What a dtype is called and how it lies in a file.
struct DTypeInfo {
  DType dtype;
  std::string_view name;    ///< as in plans and on the command line: "q4_0"
  uint32_t ggml_type;       ///< type id in a GGUF tensor record
  uint32_t gguf_file_type;  ///< `general.file_type` of a file mostly of this dtype (LLAMA_FTYPE_*)
  int64_t block_size;       ///< elements of a block; a row is a whole number of blocks
  int64_t block_bytes;
};

inline constexpr std::array<DTypeInfo, 5> kDTypes{{
    {DType::kF32, "f32", 0, 0, 1, 4},
    {DType::kF16, "f16", 1, 1, 1, 2},
    {DType::kBF16, "bf16", 30, 32, 1, 2},
    {DType::kQ8_0, "q8_0", 8, 7, 32, 34},  // f16 scale, 32 x int8
    {DType::kQ4_0, "q4_0", 2, 2, 32, 18},  // f16 scale, 32 x 4 bit: element i and i+16 share byte i
}};

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
