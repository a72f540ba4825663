#include <fmt/format.h>

#include <limits>
#include <utility>
#include <vector>

#include "runtime/gguf_cursor.h"
#include "runtime/gguf_types.h"

namespace tandem {
namespace {

/// Of an array; the longest ones in use, merges of a vocabulary, have some 500 000.
constexpr uint64_t kMaxArrayElements = uint64_t{1} << 24;

/// An integer of type T as GgufValue keeps it.
template <typename T>
int64_t read_integer(GgufCursor& cursor) {
  const T value = cursor.number<T>("integer");
  if (std::in_range<int64_t>(value)) return static_cast<int64_t>(value);
  return std::numeric_limits<int64_t>::max();
}

bool is_integer(GgufType type) {
  return type != GgufType::kF32 && type != GgufType::kF64 && type != GgufType::kString &&
         type != GgufType::kArray;
}

int64_t read_integer(GgufCursor& cursor, GgufType type) {
  switch (type) {
    case GgufType::kU8:
      return read_integer<uint8_t>(cursor);
    case GgufType::kBool:
      return cursor.number<uint8_t>("bool") != 0;
    case GgufType::kI8:
      return read_integer<int8_t>(cursor);
    case GgufType::kU16:
      return read_integer<uint16_t>(cursor);
    case GgufType::kI16:
      return read_integer<int16_t>(cursor);
    case GgufType::kU32:
      return read_integer<uint32_t>(cursor);
    case GgufType::kI32:
      return read_integer<int32_t>(cursor);
    case GgufType::kU64:
      return read_integer<uint64_t>(cursor);
    default:
      return read_integer<int64_t>(cursor);
  }
}

double read_real(GgufCursor& cursor, GgufType type) {
  return type == GgufType::kF32 ? cursor.number<float>("float") : cursor.number<double>("float");
}

GgufType read_type(GgufCursor& cursor) {
  const int64_t byte = cursor.position();
  const auto type = cursor.number<uint32_t>("value type");
  if (type > static_cast<uint32_t>(GgufType::kF64)) {
    cursor.fail(byte, fmt::format("value type {}, expected 0 to 12", type));
  }
  return static_cast<GgufType>(type);
}

/// `count` elements, one after another: memory grows with what the file really holds, so a false
/// count meets the end of the file before it costs anything.
template <typename T, typename Read>
std::vector<T> read_elements(uint64_t count, Read read) {
  std::vector<T> elements;
  for (uint64_t i = 0; i < count; ++i) elements.push_back(read());
  return elements;
}

GgufValue read_array(GgufCursor& cursor) {
  const int64_t byte = cursor.position();
  const GgufType type = read_type(cursor);
  if (type == GgufType::kArray)
    cursor.fail(byte, "an array of arrays, expected one of plain values");
  const auto count = cursor.number<uint64_t>("array length");
  if (count > kMaxArrayElements)
    cursor.fail(byte, fmt::format("an array of {} elements, expected at most {}", count,
                                  kMaxArrayElements));
  if (type == GgufType::kString)
    return read_elements<std::string>(count, [&] { return std::string(cursor.text("string")); });
  if (is_integer(type))
    return read_elements<int64_t>(count, [&] { return read_integer(cursor, type); });
  return read_elements<double>(count, [&] { return read_real(cursor, type); });
}

}  // namespace

GgufValue read_gguf_value(GgufCursor& cursor) {
  const GgufType type = read_type(cursor);
  if (type == GgufType::kArray) return read_array(cursor);
  if (type == GgufType::kString) return std::string(cursor.text("string"));
  if (type == GgufType::kBool) return read_integer(cursor, type) != 0;
  if (is_integer(type)) return read_integer(cursor, type);
  return read_real(cursor, type);
}

}  // namespace tandem
