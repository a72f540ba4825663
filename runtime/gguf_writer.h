// Builds the header of a GGUF v3: metadata first, then the table of tensors. The data follow it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/dtype.h"
#include "runtime/gguf_types.h"

namespace tandem {

class GgufHeader {
 public:
  void add_text(std::string_view key, std::string_view value);
  void add_u32(std::string_view key, int64_t value);
  void add_f32(std::string_view key, double value);
  void add_flag(std::string_view key, bool value);
  void add_texts(std::string_view key, std::span<const std::string> values);
  void add_f32s(std::string_view key, std::span<const float> values);
  void add_i32s(std::string_view key, std::span<const int32_t> values);

  /// The next tensor's data take `bytes`; dims are fastest first.
  void add_tensor(std::string_view name, std::span<const int64_t> dims, DType dtype, int64_t bytes);

  /// All bytes before the first tensor's data, padded.
  std::string bytes() const;
  /// Zeros after a tensor of so many bytes.
  static std::string padding(int64_t bytes);

 private:
  void add_key(std::string_view key, GgufType type);

  uint64_t num_entries_ = 0, num_tensors_ = 0;
  std::string metadata_, tensor_table_;
  int64_t data_bytes_ = 0;  ///< of the tensors so far, padded
};

}  // namespace tandem
