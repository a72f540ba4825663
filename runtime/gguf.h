// A GGUF v2/v3 file as its header describes it: typed metadata and a table of tensors, every length
// and offset checked against the file. What the keys mean for a model lies in model_gguf.cpp.
// Format: github.com/ggml-org/ggml, docs/gguf.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/dtype.h"

namespace tandem {

/// Integers of every width are int64_t (a u64 beyond that becomes INT64_MAX, larger than any figure
/// we accept), both float widths are double; arrays likewise, arrays of bool as 0 and 1.
using GgufValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufEntry {
  GgufValue value;
  int64_t byte = 0;  ///< where the value lies in the file, for messages
};

struct GgufTensor {
  std::vector<int64_t> dims;  ///< as in the file, fastest first: {k, columns}; 1 to 4, each >= 1
  DType dtype = DType::kF32;
  std::span<const std::byte> data;  ///< prod(dims) elements, whole blocks per row
  int64_t byte = 0;                 ///< where its record lies in the file, for messages
};

struct Gguf {
  std::string path;
  std::map<std::string, GgufEntry, std::less<>> metadata;
  std::map<std::string, GgufTensor, std::less<>> tensors;
  std::string_view tensor_table;  ///< the bytes of all tensor records
};

/// Reads the header of a whole file that lies in `bytes`, which must outlive the result. Error
/// `PATH: byte N: ...` for whatever is not a well-formed little-endian GGUF v2/v3 of known dtypes.
Gguf parse_gguf(const std::string& path, std::span<const std::byte> bytes);

/// `text` from a file, made fit for a one-line message: at most 64 characters, other than printable
/// ASCII as '?'.
std::string printable(std::string_view text);

/// Throws Error `PATH: byte N: MESSAGE`.
[[noreturn]] void fail_at_byte(const std::string& path, int64_t byte, std::string_view message);

}  // namespace tandem
