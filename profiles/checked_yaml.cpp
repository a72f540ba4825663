#include "profiles/checked_yaml.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ios>
#include <set>

#include "kernels/error.h"

namespace tandem {
namespace {

/// The whole text as a number, or nothing.
template <typename T>
std::optional<T> parse(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view kind(const YAML::Node& node) {
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  if (node.IsScalar()) return "a value";
  return "nothing";
}

/// Messages are one line, whatever the file holds.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  constexpr size_t kLongest = 60;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace

CheckedYaml::CheckedYaml(YAML::Node node, std::string name, int fallback_line,
                         std::shared_ptr<const std::string> file)
    : node_(std::move(node)), name_(std::move(name)), line_(fallback_line), file_(std::move(file)) {
  // An absent value carries no mark; its parent's line is the best there is.
  if (line_ > 0 && node_.IsDefined() && !node_.Mark().is_null()) line_ = node_.Mark().line + 1;
}

CheckedYaml CheckedYaml::load(const std::string& path) {
  try {
    return {YAML::LoadFile(path), "", 1, std::make_shared<const std::string>(path)};
  } catch (const YAML::BadFile&) {
    throw Error(fmt::format("{}: cannot be read; expected a YAML file", path));
  } catch (const std::ios_base::failure&) {
    throw Error(fmt::format("{}: cannot be read; expected a YAML file", path));
  } catch (const YAML::Exception& e) {
    throw Error(fmt::format("{}:{}: not YAML: {}", path, e.mark.line + 1, one_line(e.msg)));
  }
}

CheckedYaml CheckedYaml::tree(YAML::Node root, const std::string& place) {
  return {std::move(root), "", 0, std::make_shared<const std::string>(place)};
}

CheckedYaml CheckedYaml::child(const YAML::Node& node, std::string name) const {
  return {node, std::move(name), line_, file_};
}

std::vector<std::pair<std::string, CheckedYaml>> CheckedYaml::entries() const {
  if (!node_.IsMap()) fail(fmt::format("found {}; expected a map", kind(node_)));
  std::vector<std::pair<std::string, CheckedYaml>> entries;
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    const CheckedYaml key = child(entry.first, "key");
    std::string text = key.text();
    if (!seen.insert(text).second) key.fail(fmt::format("{} occurs twice", one_line(text)));
    entries.emplace_back(text, CheckedYaml(entry.second, text, key.line(), file_));
  }
  return entries;
}

std::optional<CheckedYaml> CheckedYaml::find(std::string_view key) const {
  for (auto& [name, value] : entries())
    if (name == key) return value;
  return std::nullopt;
}

CheckedYaml CheckedYaml::at(std::string_view key) const {
  if (auto value = find(key)) return *value;
  fail(fmt::format("{} is missing", key));
}

void CheckedYaml::allow_keys(std::initializer_list<std::string_view> keys) const {
  for (const auto& [name, value] : entries())
    if (std::find(keys.begin(), keys.end(), name) == keys.end())
      throw Error(fmt::format("{}: unknown key {}; known: {}", value.place(), one_line(name),
                              fmt::join(keys, ", ")));
}

std::vector<CheckedYaml> CheckedYaml::items() const {
  if (!node_.IsSequence()) fail(fmt::format("found {}; expected a list", kind(node_)));
  std::vector<CheckedYaml> items;
  for (const auto& item : node_)
    items.push_back(child(item, fmt::format("{}[{}]", name_, items.size())));
  return items;
}

std::string_view CheckedYaml::scalar(std::string_view expected) const {
  if (!node_.IsScalar()) fail(fmt::format("found {}; expected {}", kind(node_), expected));
  return node_.Scalar();
}

std::string CheckedYaml::text() const { return std::string(scalar("text")); }

int64_t CheckedYaml::integer(int64_t low, int64_t high) const {
  const std::string_view text = scalar("an integer");
  const auto value = parse<int64_t>(text);
  if (!value) fail(fmt::format("{} is no integer", one_line(std::string(text))));
  if (*value < low || *value > high)
    fail(high == std::numeric_limits<int64_t>::max()
             ? fmt::format("{} is too small; expected at least {}", *value, low)
             : fmt::format("{} is out of range; expected {} to {}", *value, low, high));
  return *value;
}

double CheckedYaml::number(double low, double high) const {
  const std::string_view text = scalar("a number");
  const auto value = parse<double>(text);
  if (!value || !std::isfinite(*value))
    fail(fmt::format("{} is no number", one_line(std::string(text))));
  if (*value < low || *value > high)
    fail(high == std::numeric_limits<double>::max()
             ? fmt::format("{} is too small; expected at least {}", *value, low)
             : fmt::format("{} is out of range; expected {} to {}", *value, low, high));
  return *value;
}

bool CheckedYaml::boolean() const {
  const std::string_view text = scalar("true or false");
  if (text != "true" && text != "false")
    fail(fmt::format("{} is neither true nor false", one_line(std::string(text))));
  return text == "true";
}

std::string CheckedYaml::place() const {
  return line_ > 0 ? fmt::format("{}:{}", *file_, line_) : *file_;
}

void CheckedYaml::fail(std::string_view message) const {
  throw Error(name_.empty() ? fmt::format("{}: {}", place(), message)
                            : fmt::format("{}: {}: {}", place(), name_, message));
}

}  // namespace tandem
