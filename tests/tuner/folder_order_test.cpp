#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace tandem {
namespace {

namespace fs = std::filesystem;

/// What our files of one folder include of our headers: "folder/file.h" to the file that includes
/// it.
std::map<std::string, std::string> includes_of(const std::string& folder) {
  static const std::regex pattern("^#include \"([a-z_]+/[^\"]+)\"");
  std::map<std::string, std::string> found;
  for (const fs::directory_entry& file :
       fs::directory_iterator(fs::path(TANDEM_SOURCE_DIR) / folder)) {
    if (!file.is_regular_file()) continue;
    std::ifstream text(file.path());
    std::smatch match;
    for (std::string line; std::getline(text, line);)
      if (std::regex_search(line, match, pattern)) found[match[1]] = file.path().filename();
  }
  return found;
}

std::string folder_of(const std::string& header) { return header.substr(0, header.find('/')); }

TEST_CASE("a folder includes only itself and folders to its left") {
  std::set<std::string> allowed;
  for (const std::string folder : {"kernels", "profiles", "sim", "runtime", "tuner"}) {
    allowed.insert(folder);
    const auto includes = includes_of(folder);
    CHECK_MESSAGE(includes.size() >= 3, folder << " was not found");
    for (const auto& [header, file] : includes)
      CHECK_MESSAGE(allowed.contains(folder_of(header)),
                    fmt::format("{}/{} includes {}", folder, file, header));
  }
}

TEST_CASE("sim sees plain structs of other folders and no hardware") {
  const std::set<std::string> plain{"kernels/range.h", "kernels/error.h", "kernels/dtype.h",
                                    "profiles/machine_profile.h", "profiles/curve.h"};
  for (const auto& [header, file] : includes_of("sim"))
    CHECK_MESSAGE((folder_of(header) == "sim" || plain.contains(header)),
                  fmt::format("sim/{} includes {}", file, header));
}

}  // namespace
}  // namespace tandem
