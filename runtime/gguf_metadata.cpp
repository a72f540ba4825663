#include "runtime/gguf_metadata.h"

#include <fmt/format.h>

#include <cmath>
#include <variant>

#include "kernels/error.h"

namespace tandem {
namespace {

template <typename T>
std::optional<T> copy_of(const T* value) {
  return value ? std::optional<T>(*value) : std::nullopt;
}

}  // namespace

template <typename T>
const T* GgufMetadata::value(std::string_view key, std::string_view expected) const {
  const auto entry = gguf_.metadata.find(key);
  if (entry == gguf_.metadata.end()) return nullptr;
  const T* value = std::get_if<T>(&entry->second.value);
  if (!value) fail(key, fmt::format("has another type, expected {}", expected));
  return value;
}

std::optional<std::string> GgufMetadata::text(std::string_view key) const {
  return copy_of(value<std::string>(key, "text"));
}

std::optional<bool> GgufMetadata::flag(std::string_view key) const {
  return copy_of(value<bool>(key, "true or false"));
}

std::optional<int64_t> GgufMetadata::integer(std::string_view key) const {
  return copy_of(value<int64_t>(key, "an integer"));
}

std::optional<double> GgufMetadata::real(std::string_view key) const {
  const auto entry = gguf_.metadata.find(key);
  if (entry != gguf_.metadata.end() && std::holds_alternative<int64_t>(entry->second.value))
    return static_cast<double>(std::get<int64_t>(entry->second.value));
  return copy_of(value<double>(key, "a number"));
}

const std::vector<std::string>* GgufMetadata::texts(std::string_view key) const {
  return value<std::vector<std::string>>(key, "an array of texts");
}

const std::vector<double>* GgufMetadata::reals(std::string_view key) const {
  return value<std::vector<double>>(key, "an array of floats");
}

const std::vector<int64_t>* GgufMetadata::integers(std::string_view key) const {
  return value<std::vector<int64_t>>(key, "an array of integers");
}

int64_t GgufMetadata::integer_in(std::string_view key, int64_t low, int64_t high,
                                 std::optional<int64_t> fallback) const {
  const std::optional<int64_t> found = integer(key);
  if (!found && !fallback) fail_missing(key);
  if (!found) return *fallback;
  if (*found < low || *found > high)
    fail(key, fmt::format("is {}, expected {} to {}", *found, low, high));
  return *found;
}

double GgufMetadata::positive(std::string_view key, std::optional<double> fallback) const {
  const std::optional<double> found = real(key);
  if (!found && !fallback) fail_missing(key);
  if (!found) return *fallback;
  if (!std::isfinite(*found) || *found <= 0)
    fail(key, fmt::format("is {}, expected a number above 0", *found));
  return *found;
}

void GgufMetadata::fail(std::string_view key, std::string_view message) const {
  const auto entry = gguf_.metadata.find(key);
  if (entry == gguf_.metadata.end())
    throw Error(fmt::format("{}: {} {}", gguf_.path, key, message));
  fail_at_byte(gguf_.path, entry->second.byte, fmt::format("{} {}", key, message));
}

void GgufMetadata::fail_missing(std::string_view key) const {
  throw Error(
      fmt::format("{}: key '{}' is missing, a model cannot be read without it", gguf_.path, key));
}

}  // namespace tandem
