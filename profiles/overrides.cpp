#include "profiles/overrides.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <vector>

#include "kernels/error.h"
#include "profiles/profile_read.h"
#include "profiles/profile_yaml.h"
#include "profiles/what_if.h"

namespace tandem {
namespace {

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> steps;
  std::istringstream stream(path);
  for (std::string step; std::getline(stream, step, '.');) steps.push_back(step);
  return steps;
}

/// What an item of a list is called in a path, "" where only its position names it.
std::string item_name(const YAML::Node& item) {
  if (!item.IsMap()) return "";
  if (item["name"]) return item["name"].Scalar();
  if (item["from"] && item["to"]) return item["from"].Scalar() + "-" + item["to"].Scalar();
  if (!item["units"]) return "";
  std::string names;
  for (const YAML::Node& unit : item["units"]) names += (names.empty() ? "" : "+") + unit.Scalar();
  return names;
}

/// The names of the children of a map or list, in order.
std::vector<std::string> child_names(const YAML::Node& node) {
  std::vector<std::string> names;
  if (node.IsMap())
    for (const auto& entry : node) names.push_back(entry.first.Scalar());
  if (node.IsSequence())
    for (const YAML::Node& item : node) {
      const std::string name = item_name(item);
      names.push_back(name.empty() ? std::to_string(names.size()) : name);
    }
  return names;
}

/// The child of `node` that `step` names. `so_far` is the path of `node`.
YAML::Node child(const YAML::Node& node, const std::string& step, const std::string& so_far,
                 const std::string& place) {
  const std::vector<std::string> names = child_names(node);
  const auto found = std::find(names.begin(), names.end(), step);
  if (found != names.end())
    return node.IsMap() ? node[step] : node[static_cast<size_t>(found - names.begin())];
  size_t index = 0;
  const auto [end, error] = std::from_chars(step.data(), step.data() + step.size(), index);
  const bool is_index = error == std::errc() && end == step.data() + step.size();
  if (node.IsSequence() && is_index && index < node.size()) return node[index];
  const std::string where = so_far.empty() ? "the profile" : so_far;
  if (names.empty()) throw Error(fmt::format("{}: {} has no parts to set", place, where));
  throw Error(
      fmt::format("{}: {} has no '{}', only {}", place, where, step, fmt::join(names, ", ")));
}

std::optional<int> whole_number(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

YAML::Node parse_value(const std::string& text, const std::string& place) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& e) {
    throw Error(fmt::format("{}: the value is not YAML: {}", place, e.msg));
  }
}

}  // namespace

MachineProfile with_override(const MachineProfile& profile, const std::string& override) {
  const std::string place = "--set " + override;
  const size_t equals = override.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == override.size())
    throw Error(place + ": expected PATH=VALUE as in units.cpu0.cores=8");
  const std::vector<std::string> steps = split_path(override.substr(0, equals));
  const std::string value = override.substr(equals + 1);

  const YAML::Node root = YAML::Load(profile_text(profile));
  std::vector<YAML::Node> nodes{root};
  std::string so_far;
  for (const std::string& step : steps) {
    nodes.push_back(child(nodes.back(), step, so_far, place));
    so_far += (so_far.empty() ? "" : ".") + step;
  }
  if (steps.size() == 3 && steps[0] == "units" && steps[2] == "cores")
    if (const auto cores = whole_number(value)) {
      if (*cores < 1 || *cores > 4096) throw Error(place + ": a unit has 1 to 4096 cores");
      return with_cores(profile, nodes[2]["name"].Scalar(), *cores);
    }
  nodes.back() = parse_value(value, place);
  return profile_of(CheckedYaml::tree(root, place));
}

}  // namespace tandem
