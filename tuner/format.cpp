#include "tuner/format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <numeric>
#include <span>

#include "kernels/error.h"

namespace tandem {
namespace {

struct Scale {
  std::string_view unit;
  double factor;
};

/// `value` in the first of `scales` (descending) that it reaches, else in the last.
std::string scaled(double value, std::span<const Scale> scales) {
  const auto reached = std::find_if(scales.begin(), scales.end() - 1,
                                    [&](const Scale& s) { return std::abs(value) >= s.factor; });
  const double shown = value / reached->factor;
  const int decimals = reached->factor == 1 && shown == std::floor(shown) ? 0
                       : std::abs(shown) < 9.995                          ? 2
                       : std::abs(shown) < 99.95                          ? 1
                                                                          : 0;
  return fmt::format("{:.{}f} {}", shown, decimals, reached->unit);
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

constexpr std::array<Scale, 9> kByteUnits{{{"B", 1},
                                           {"", 1},
                                           {"kB", 1e3},
                                           {"MB", 1e6},
                                           {"GB", 1e9},
                                           {"KiB", 1024.0},
                                           {"MiB", 1024.0 * 1024},
                                           {"GiB", 1024.0 * 1024 * 1024},
                                           {"TiB", 1024.0 * 1024 * 1024 * 1024}}};

}  // namespace

std::string format_bytes(double bytes) {
  static constexpr std::array<Scale, 4> kScales{
      {{"GiB", 1024.0 * 1024 * 1024}, {"MiB", 1024.0 * 1024}, {"KiB", 1024.0}, {"B", 1}}};
  return scaled(bytes, kScales);
}

std::string format_seconds(double seconds) {
  static constexpr std::array<Scale, 4> kScales{
      {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}}};
  return scaled(seconds, kScales);
}

std::string format_bytes_per_s(double bytes_per_s) {
  static constexpr std::array<Scale, 3> kScales{{{"GB/s", 1e9}, {"MB/s", 1e6}, {"kB/s", 1e3}}};
  return scaled(bytes_per_s, kScales);
}

std::string format_probe(const Probe& probe) {
  constexpr size_t kFewCores = 4;
  std::string text = "DRAM read " + format_bytes_per_s(probe.dram_read_per_s);
  std::vector<double> rates = probe.compute_per_s;
  if (rates.empty()) return text;
  if (rates.size() > kFewCores) rates = {std::accumulate(rates.begin(), rates.end(), 0.0)};
  for (double& rate : rates) rate = std::round(1e-9 * rate);
  return text + fmt::format(", compute {} GFLOP/s", fmt::join(rates, ", "));
}

std::string format_rate(const Rate& rate) {
  const int decimals = rate.per_s < 10 ? 2 : rate.per_s < 1000 ? 1 : 0;
  return fmt::format("{:.{}f} ({:.{}f} .. {:.{}f})", rate.per_s, decimals, rate.low, decimals,
                     rate.high, decimals);
}

std::string format_range(Range range) {
  if (range.empty()) return "-";
  if (range.end == kOpenEnd) return fmt::format("[{},)", range.begin);
  return fmt::format("[{},{})", range.begin, range.end);
}

std::string format_holder(const std::string& unit, Home home) {
  return home == Home::kStreamed ? unit + " streamed" : unit;
}

std::string format_cores(const std::vector<int>& cores) {
  std::string text;
  for (size_t begin = 0; begin < cores.size();) {
    size_t last = begin;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += begin == last ? fmt::format("{}", cores[begin])
                          : fmt::format("{}-{}", cores[begin], cores[last]);
    begin = last + 1;
  }
  return text;
}

int64_t parse_bytes(std::string_view text, std::string_view where) {
  const std::string_view number = trimmed(text);
  double value = 0;
  const auto [rest, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  const std::string_view unit = trimmed({rest, number.data() + number.size()});
  const auto known = std::find_if(kByteUnits.begin(), kByteUnits.end(),
                                  [&](const Scale& s) { return s.unit == unit; });
  // 2^62 bytes is beyond any memory and keeps the product in range of int64_t.
  const double bytes = known == kByteUnits.end() ? 0 : value * known->factor;
  if (error != std::errc{} || !(bytes >= 1 && bytes < 0x1p62))
    throw Error(fmt::format("{}: '{}' is no amount of memory: expected e.g. 2GiB, 512MiB or 3e9",
                            where, text));
  return static_cast<int64_t>(bytes);
}

std::vector<std::string> split_list(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  for (;;) {
    const size_t end = std::min(text.find(separator), text.size());
    if (const std::string_view piece = trimmed(text.substr(0, end)); !piece.empty())
      pieces.emplace_back(piece);
    if (end == text.size()) return pieces;
    text.remove_prefix(end + 1);
  }
}

std::vector<int32_t> parse_integers(std::string_view text, std::string_view where) {
  std::vector<int32_t> values;
  for (const std::string& piece : split_list(text)) {
    int32_t value = 0;
    const char* end = piece.data() + piece.size();
    const auto [rest, error] = std::from_chars(piece.data(), end, value);
    if (error != std::errc{} || rest != end)
      throw Error(fmt::format("{}: '{}' is no 32-bit integer: expected e.g. 1,5,9", where, piece));
    values.push_back(value);
  }
  return values;
}

}  // namespace tandem
