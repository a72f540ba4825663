// Numbers of the GGUF format that reader and writer share.
#pragma once

#include <cstdint>

namespace tandem {

/// Value types of the metadata, by their number in the file.
enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

/// Of each tensor's data, where general.alignment does not say otherwise.
inline constexpr int64_t kGgufAlignment = 32;

}  // namespace tandem
