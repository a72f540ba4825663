// Typed, checked look-up of a GGUF's metadata: every mistake is named with the byte of its value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf.h"

namespace tandem {

class GgufMetadata {
 public:
  explicit GgufMetadata(const Gguf& gguf) : gguf_(gguf) {}

  /// The value of a key, or nothing where the key is absent. Error where it has another type.
  std::optional<std::string> text(std::string_view key) const;
  std::optional<bool> flag(std::string_view key) const;
  std::optional<int64_t> integer(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;  ///< an integer counts as well
  const std::vector<std::string>* texts(std::string_view key) const;
  const std::vector<double>* reals(std::string_view key) const;
  const std::vector<int64_t>* integers(std::string_view key) const;

  /// An integer in [low, high]; Error naming the key where it is absent and has no `fallback`.
  int64_t integer_in(std::string_view key, int64_t low, int64_t high,
                     std::optional<int64_t> fallback = {}) const;
  /// A finite number above 0, likewise.
  double positive(std::string_view key, std::optional<double> fallback = {}) const;

  /// Throws Error at the value of `key`, which must be there.
  [[noreturn]] void fail(std::string_view key, std::string_view message) const;
  /// Throws Error for a key that must be there and is not.
  [[noreturn]] void fail_missing(std::string_view key) const;

 private:
  template <typename T>
  const T* value(std::string_view key, std::string_view expected) const;

  const Gguf& gguf_;
};

}  // namespace tandem
