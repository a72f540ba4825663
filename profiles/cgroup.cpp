#include "profiles/cgroup.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <string_view>

namespace tandem {
namespace {

/// Calls visit(folder) for the process's group and every group above it, in v2 or in v1's
/// hierarchy of `controller`. Within a container the path may not exist below the mount; then only
/// the groups that do exist answer.
void visit_groups(const CgroupFiles& files, std::string_view controller,
                  const std::function<void(const std::string&)>& visit) {
  std::ifstream membership(files.membership);
  std::string line;
  while (std::getline(membership, line)) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v1 =
        ("," + controllers + ",").find("," + std::string(controller) + ",") != std::string::npos;
    if (!v1 && !controllers.empty()) continue;
    const std::string root = files.mount + (v1 ? "/" + std::string(controller) : "");
    std::string path = line.substr(second + 1);
    while (path.size() > 1) {
      visit(root + path);
      path.resize(path.rfind('/'));
    }
    visit(root);
  }
}

/// The first two words of a file, empty where there are none.
std::pair<std::string, std::string> words_of(const std::string& path) {
  std::pair<std::string, std::string> words;
  std::ifstream file(path);
  file >> words.first >> words.second;
  return words;
}

/// A positive number; nothing for "max", "-1" and what is not there.
std::optional<double> positive(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value > 0)) return std::nullopt;
  return value;
}

void keep_smaller(std::optional<double>& smallest, std::optional<double> value) {
  if (value && (!smallest || *value < *smallest)) smallest = value;
}

}  // namespace

std::optional<int64_t> cgroup_memory_limit(const CgroupFiles& files) {
  std::optional<double> limit;
  visit_groups(files, "memory", [&](const std::string& group) {
    keep_smaller(limit, positive(words_of(group + "/memory.max").first));
    keep_smaller(limit, positive(words_of(group + "/memory.limit_in_bytes").first));
  });
  // v1 says "no limit" with a number near 2^63.
  if (!limit || *limit > 1e18) return std::nullopt;
  return static_cast<int64_t>(*limit);
}

std::optional<double> cgroup_cpu_limit(const CgroupFiles& files) {
  std::optional<double> limit;
  visit_groups(files, "cpu", [&](const std::string& group) {
    const auto [quota, period] = words_of(group + "/cpu.max");
    if (positive(quota) && positive(period))
      keep_smaller(limit, *positive(quota) / *positive(period));
    const auto quota_us = positive(words_of(group + "/cpu.cfs_quota_us").first);
    const auto period_us = positive(words_of(group + "/cpu.cfs_period_us").first);
    if (quota_us && period_us) keep_smaller(limit, *quota_us / *period_us);
  });
  return limit;
}

}  // namespace tandem
