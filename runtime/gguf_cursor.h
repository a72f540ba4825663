// Reading a GGUF's numbers, texts and metadata values one after another, never beyond the end.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "runtime/gguf.h"

namespace tandem {

static_assert(std::endian::native == std::endian::little,
              "values are read as they lie in the file");

/// A place in the file that moves forward and never beyond the end.
class GgufCursor {
 public:
  GgufCursor(const std::string& path, std::span<const std::byte> bytes)
      : path_(path), bytes_(bytes) {}

  int64_t position() const { return position_; }
  int64_t remaining() const { return static_cast<int64_t>(bytes_.size()) - position_; }

  /// The next `count` bytes, which are `what`.
  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    if (count > static_cast<uint64_t>(remaining()))
      fail(position_,
           fmt::format(
               "{} of {} bytes, but {} bytes are left of the file: it is truncated or corrupt",
               what, count, remaining()));
    const auto taken = bytes_.subspan(static_cast<size_t>(position_), count);
    position_ += static_cast<int64_t>(count);
    return taken;
  }

  template <typename T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::string_view text(std::string_view what) {
    const auto length = number<uint64_t>(what);
    const auto chars = take(length, what);
    return {reinterpret_cast<const char*>(chars.data()), chars.size()};
  }

  /// Fails for something that lies at `byte`.
  [[noreturn]] void fail(int64_t byte, std::string_view message) const {
    fail_at_byte(path_, byte, message);
  }

 private:
  const std::string& path_;
  std::span<const std::byte> bytes_;
  int64_t position_ = 0;
};

/// Type and value of a metadata entry.
GgufValue read_gguf_value(GgufCursor& cursor);

}  // namespace tandem
