#include "runtime/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "kernels/error.h"
#include "kernels/range.h"
#include "runtime/gguf_cursor.h"
#include "runtime/gguf_types.h"

namespace tandem {
namespace {

/// Names of ggml's tensor types, for the message about those we do not support.
constexpr std::array<std::string_view, 31> kGgmlTypes{
    "f32",     "f16",    "q4_0",    "q4_1",  "q4_2",   "q4_3",  "q5_0",  "q5_1",
    "q8_0",    "q8_1",   "q2_k",    "q3_k",  "q4_k",   "q5_k",  "q6_k",  "q8_k",
    "iq2_xxs", "iq2_xs", "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs",
    "i8",      "i16",    "i32",     "i64",   "f64",    "iq1_m", "bf16"};

constexpr int64_t kMaxNameBytes = 65535;  ///< of a key, as the format says
constexpr uint32_t kMaxDims = 4;
/// Their bytes fit an int64_t in any dtype.
constexpr int64_t kMaxTensorElements = int64_t{1} << 56;
constexpr int64_t kMaxAlignment = int64_t{1} << 30;

void read_version(GgufCursor& cursor) {
  if (std::memcmp(cursor.take(4, "magic").data(), "GGUF", 4) != 0)
    cursor.fail(0, "no GGUF file, expected it to begin with \"GGUF\"");
  const auto version = cursor.number<uint32_t>("version");
  if (version == 2 || version == 3) return;
  if (version == 1) cursor.fail(4, "GGUF version 1, expected 2 or 3: convert the model anew");
  if ((version & 0xffff) == 0) cursor.fail(4, "a big-endian GGUF, expected little-endian");
  cursor.fail(4, fmt::format("GGUF version {}, expected 2 or 3", version));
}

std::string_view read_name(GgufCursor& cursor, std::string_view what) {
  const int64_t byte = cursor.position();
  const std::string_view name = cursor.text(what);
  if (name.empty() || static_cast<int64_t>(name.size()) > kMaxNameBytes)
    cursor.fail(byte,
                fmt::format("{} of {} bytes, expected 1 to {}", what, name.size(), kMaxNameBytes));
  return name;
}

void read_metadata(GgufCursor& cursor, uint64_t count, Gguf& gguf) {
  for (uint64_t i = 0; i < count; ++i) {
    const int64_t byte = cursor.position();
    std::string key(read_name(cursor, "key"));
    const int64_t value_byte = cursor.position();
    GgufEntry entry{read_gguf_value(cursor), value_byte};
    const auto [place, is_new] = gguf.metadata.emplace(std::move(key), std::move(entry));
    if (!is_new)
      cursor.fail(byte,
                  fmt::format("key '{}' a second time, expected once", printable(place->first)));
  }
}

/// Returns the number of elements.
int64_t read_dims(GgufCursor& cursor, const std::string& name, std::vector<int64_t>& dims) {
  const int64_t byte = cursor.position();
  const auto num_dims = cursor.number<uint32_t>("number of dimensions");
  if (num_dims < 1 || num_dims > kMaxDims)
    cursor.fail(byte, fmt::format("tensor '{}' of {} dimensions, expected 1 to {}", name, num_dims,
                                  kMaxDims));
  int64_t elements = 1;
  for (uint32_t i = 0; i < num_dims; ++i) {
    const int64_t dim_byte = cursor.position();
    const auto dim = cursor.number<uint64_t>("dimension");
    if (dim < 1 || dim > static_cast<uint64_t>(kMaxTensorElements / elements))
      cursor.fail(dim_byte, fmt::format("tensor '{}' with dimension {}, expected 1 or more and at "
                                        "most {} elements",
                                        name, dim, kMaxTensorElements));
    elements *= static_cast<int64_t>(dim);
    dims.push_back(static_cast<int64_t>(dim));
  }
  return elements;
}

std::string dtype_names() {
  std::string names;
  for (const DTypeInfo& dtype : kDTypes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", dtype.name);
  return names;
}

DType read_dtype(GgufCursor& cursor, const std::string& name) {
  const int64_t byte = cursor.position();
  const auto type = cursor.number<uint32_t>("tensor type");
  if (const std::optional<DType> dtype = dtype_of_ggml_type(type)) return *dtype;
  const std::string_view type_name = type < kGgmlTypes.size() ? kGgmlTypes[type] : "unknown";
  cursor.fail(byte, fmt::format("tensor '{}' has type {} ({}), supported are {}", name, type,
                                type_name, dtype_names()));
}

/// A tensor's record, before it is known where the data begin: `data` counts from there.
struct TensorRecord {
  std::string name;
  GgufTensor tensor;
  uint64_t offset;
  uint64_t bytes;
};

TensorRecord read_tensor(GgufCursor& cursor) {
  TensorRecord record;
  record.tensor.byte = cursor.position();
  record.name = read_name(cursor, "tensor name");
  const std::string shown = printable(record.name);
  const int64_t elements = read_dims(cursor, shown, record.tensor.dims);
  record.tensor.dtype = read_dtype(cursor, shown);
  record.offset = cursor.number<uint64_t>("tensor offset");
  const DTypeInfo& dtype = info(record.tensor.dtype);
  if (record.tensor.dims[0] % dtype.block_size != 0)
    cursor.fail(record.tensor.byte,
                fmt::format("tensor '{}' has rows of {} elements, expected a multiple of {} for {}",
                            shown, record.tensor.dims[0], dtype.block_size, dtype.name));
  record.bytes = static_cast<uint64_t>(row_bytes(record.tensor.dtype, elements));
  return record;
}

int64_t read_alignment(const GgufCursor& cursor, const Gguf& gguf) {
  const auto entry = gguf.metadata.find("general.alignment");
  if (entry == gguf.metadata.end()) return kGgufAlignment;
  const int64_t* value = std::get_if<int64_t>(&entry->second.value);
  if (!value || *value < 8 || *value > kMaxAlignment || (*value & (*value - 1)) != 0)
    cursor.fail(entry->second.byte,
                fmt::format("general.alignment {}, expected a power of 2 from 8 to {}",
                            value ? fmt::to_string(*value) : "of another type", kMaxAlignment));
  return *value;
}

/// Tensors that share bytes would let a small file stand for a model of any size.
void check_apart(const GgufCursor& cursor, const std::vector<TensorRecord>& records) {
  std::vector<const TensorRecord*> by_offset;
  for (const TensorRecord& record : records) by_offset.push_back(&record);
  std::stable_sort(
      by_offset.begin(), by_offset.end(),
      [](const TensorRecord* a, const TensorRecord* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorRecord& before = *by_offset[i - 1];
    if (by_offset[i]->offset - before.offset < before.bytes)
      cursor.fail(by_offset[i]->tensor.byte,
                  fmt::format("tensor '{}' at offset {} lies within '{}', expected {} or more",
                              printable(by_offset[i]->name), by_offset[i]->offset,
                              printable(before.name), before.offset + before.bytes));
  }
}

/// Points a tensor at its bytes, `data_begin` being where the data section begins.
void place_tensor(const GgufCursor& cursor, TensorRecord record, uint64_t data_begin,
                  uint64_t alignment, std::span<const std::byte> bytes, Gguf& gguf) {
  const int64_t byte = record.tensor.byte;
  const std::string shown = printable(record.name);
  if (record.offset % alignment != 0)
    cursor.fail(byte, fmt::format("tensor '{}' at offset {}, expected a multiple of {}", shown,
                                  record.offset, alignment));
  const uint64_t held = bytes.size() > data_begin ? bytes.size() - data_begin : 0;
  if (record.bytes > held || record.offset > held - record.bytes)
    cursor.fail(byte, fmt::format("tensor '{}' of {} bytes at offset {}, but the file holds {} "
                                  "bytes of data: it is truncated or corrupt",
                                  shown, record.bytes, record.offset, held));
  record.tensor.data = bytes.subspan(data_begin + record.offset, record.bytes);
  if (!gguf.tensors.emplace(std::move(record.name), std::move(record.tensor)).second)
    cursor.fail(byte, fmt::format("tensor '{}' a second time, expected once", shown));
}

void read_tensors(GgufCursor& cursor, uint64_t count, std::span<const std::byte> bytes,
                  Gguf& gguf) {
  const int64_t table_begin = cursor.position();
  std::vector<TensorRecord> records;
  for (uint64_t i = 0; i < count; ++i) records.push_back(read_tensor(cursor));
  const auto table = bytes.subspan(static_cast<size_t>(table_begin),
                                   static_cast<size_t>(cursor.position() - table_begin));
  gguf.tensor_table = {reinterpret_cast<const char*>(table.data()), table.size()};
  const int64_t alignment = read_alignment(cursor, gguf);
  const auto data_begin = static_cast<uint64_t>(round_up(cursor.position(), alignment));
  check_apart(cursor, records);
  for (TensorRecord& record : records)
    place_tensor(cursor, std::move(record), data_begin, static_cast<uint64_t>(alignment), bytes,
                 gguf);
}

}  // namespace

Gguf parse_gguf(const std::string& path, std::span<const std::byte> bytes) {
  Gguf gguf;
  gguf.path = path;
  GgufCursor cursor(path, bytes);
  read_version(cursor);
  const auto num_tensors = cursor.number<uint64_t>("tensor count");
  const auto num_entries = cursor.number<uint64_t>("key count");
  read_metadata(cursor, num_entries, gguf);
  read_tensors(cursor, num_tensors, bytes, gguf);
  return gguf;
}

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 64));
  for (char& c : shown)
    if (c < ' ' || c > '~') c = '?';
  return shown;
}

void fail_at_byte(const std::string& path, int64_t byte, std::string_view message) {
  throw Error(fmt::format("{}: byte {}: {}", path, byte, message));
}

}  // namespace tandem
