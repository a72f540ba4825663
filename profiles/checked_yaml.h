// YAML that people write, read so that every mistake is named with its file and line. It knows no
// format of ours.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem {

/// A node of a YAML file that remembers where it stands and what it is called. Whatever is wrong
/// throws Error `FILE:LINE: ...` with the value found and what was expected.
class CheckedYaml {
 public:
  /// The root of a file. Error where it cannot be read or is no YAML.
  static CheckedYaml load(const std::string& path);
  /// A tree that lies in no file; messages begin with `place` and name no line.
  static CheckedYaml tree(YAML::Node root, const std::string& place);

  /// Of a map: the value of a key that must be there; of one that may be.
  CheckedYaml at(std::string_view key) const;
  std::optional<CheckedYaml> find(std::string_view key) const;
  /// Error unless this is a map and every key is one of `keys`.
  void allow_keys(std::initializer_list<std::string_view> keys) const;
  /// Keys and values of a map in the order of the file. Error for a key that occurs twice.
  std::vector<std::pair<std::string, CheckedYaml>> entries() const;
  /// Elements of a list.
  std::vector<CheckedYaml> items() const;

  /// Scalars. `integer` and `number` must lie in [low, high]; `number` must be finite.
  std::string text() const;
  int64_t integer(int64_t low = std::numeric_limits<int64_t>::min(),
                  int64_t high = std::numeric_limits<int64_t>::max()) const;
  double number(double low = std::numeric_limits<double>::lowest(),
                double high = std::numeric_limits<double>::max()) const;
  bool boolean() const;

  bool is_map() const { return node_.IsMap(); }
  bool is_list() const { return node_.IsSequence(); }
  bool is_scalar() const { return node_.IsScalar(); }

  /// The key, or the list and index, under which it stands: "units[2]"; "" for the root.
  const std::string& name() const { return name_; }
  /// 1-based; 0 in a tree that lies in no file.
  int line() const { return line_; }
  /// `FILE:LINE`, or the place of a tree.
  std::string place() const;
  [[noreturn]] void fail(std::string_view message) const;

 private:
  CheckedYaml(YAML::Node node, std::string name, int fallback_line,
              std::shared_ptr<const std::string> file);
  CheckedYaml child(const YAML::Node& node, std::string name) const;
  std::string_view scalar(std::string_view expected) const;

  YAML::Node node_;
  std::string name_;
  int line_ = 1;
  std::shared_ptr<const std::string> file_;
};

}  // namespace tandem
