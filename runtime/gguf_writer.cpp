#include "runtime/gguf_writer.h"

#include "kernels/range.h"
#include "runtime/gguf_types.h"

namespace tandem {
namespace {

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out.append(text);
}

template <typename T>
void append_array(std::string& out, GgufType type, std::span<const T> values) {
  append(out, type);
  append(out, static_cast<uint64_t>(values.size()));
  for (const T& value : values) append(out, value);
}

}  // namespace

void GgufHeader::add_key(std::string_view key, GgufType type) {
  append_text(metadata_, key);
  append(metadata_, type);
  ++num_entries_;
}

void GgufHeader::add_text(std::string_view key, std::string_view value) {
  add_key(key, GgufType::kString);
  append_text(metadata_, value);
}

void GgufHeader::add_u32(std::string_view key, int64_t value) {
  add_key(key, GgufType::kU32);
  append(metadata_, static_cast<uint32_t>(value));
}

void GgufHeader::add_f32(std::string_view key, double value) {
  add_key(key, GgufType::kF32);
  append(metadata_, static_cast<float>(value));
}

void GgufHeader::add_flag(std::string_view key, bool value) {
  add_key(key, GgufType::kBool);
  append(metadata_, static_cast<uint8_t>(value));
}

void GgufHeader::add_texts(std::string_view key, std::span<const std::string> values) {
  add_key(key, GgufType::kArray);
  append(metadata_, GgufType::kString);
  append(metadata_, static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) append_text(metadata_, value);
}

void GgufHeader::add_f32s(std::string_view key, std::span<const float> values) {
  add_key(key, GgufType::kArray);
  append_array(metadata_, GgufType::kF32, values);
}

void GgufHeader::add_i32s(std::string_view key, std::span<const int32_t> values) {
  add_key(key, GgufType::kArray);
  append_array(metadata_, GgufType::kI32, values);
}

void GgufHeader::add_tensor(std::string_view name, std::span<const int64_t> dims, DType dtype,
                            int64_t bytes) {
  append_text(tensor_table_, name);
  append(tensor_table_, static_cast<uint32_t>(dims.size()));
  for (const int64_t dim : dims) append(tensor_table_, static_cast<uint64_t>(dim));
  append(tensor_table_, info(dtype).ggml_type);
  append(tensor_table_, static_cast<uint64_t>(data_bytes_));
  data_bytes_ += round_up(bytes, kGgufAlignment);
  ++num_tensors_;
}

std::string GgufHeader::bytes() const {
  std::string header = "GGUF";
  append(header, uint32_t{3});
  append(header, num_tensors_);
  append(header, num_entries_);
  header += metadata_ + tensor_table_;
  return header + padding(static_cast<int64_t>(header.size()));
}

std::string GgufHeader::padding(int64_t bytes) {
  return std::string(static_cast<size_t>(round_up(bytes, kGgufAlignment) - bytes), '\0');
}

}  // namespace tandem
