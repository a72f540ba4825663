// kernels < profiles < sim < runtime < tuner: a folder includes only those to its left; sim only
// plain headers of them.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const std::array<std::string, 5> kFolders{"kernels", "profiles", "sim", "runtime", "tuner"};
const std::set<std::string> kSimMayInclude{
    "kernels/range.h",       "kernels/error.h",  "kernels/dtype.h",           "kernels/home.h",
    "kernels/cuda_planes.h", "profiles/curve.h", "profiles/machine_profile.h"};

struct Include {
  std::string from;  ///< folder
  std::string file;
  std::string to;  ///< "kernels/range.h"
};

/// Place of a folder in the order; kFolders.size() for any other.
size_t rank(const std::string& folder) {
  return static_cast<size_t>(std::find(kFolders.begin(), kFolders.end(), folder) -
                             kFolders.begin());
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

/// Lines of a folder's sources that match, `to` being the pattern's group.
std::vector<Include> lines_in(const std::string& folder, const std::regex& pattern) {
  std::vector<Include> lines;
  for (const auto& entry : fs::directory_iterator(fs::path(TANDEM_SOURCE_DIR) / folder)) {
    const std::string extension = entry.path().extension();
    if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh")
      continue;
    std::ifstream in(entry.path());
    std::smatch match;
    for (std::string line; std::getline(in, line);)
      if (std::regex_match(line, match, pattern))
        lines.push_back({folder, entry.path().filename(), match[1]});
  }
  return lines;
}

/// Includes in quotes, which are those of our own files.
std::vector<Include> includes_in(const std::string& folder) {
  static const std::regex pattern(R"re(^\s*#\s*include\s*"([^"]+)".*)re");
  return lines_in(folder, pattern);
}

}  // namespace

TEST_CASE("a folder includes only those to its left, and itself") {
  for (const std::string& folder : kFolders) {
    const std::vector<Include> includes = includes_in(folder);
    CHECK_MESSAGE(!includes.empty(), folder, " has sources that include something");
    for (const Include& include : includes)
      CHECK_MESSAGE(rank(folder_of(include.to)) <= rank(folder), folder, "/", include.file,
                    " includes ", include.to);
  }
}

TEST_CASE("sim includes only plain headers of other folders") {
  for (const Include& include : includes_in("sim"))
    if (folder_of(include.to) != "sim")
      CHECK_MESSAGE(kSimMayInclude.contains(include.to), "sim/", include.file, " includes ",
                    include.to);
}

TEST_CASE("only kernels/cuda_* include CUDA's headers, and no file asks whether there is CUDA") {
  static const std::regex headers(R"re(^\s*#\s*include\s*<((?:cuda|cublas|nvtx)[^>]*)>.*)re");
  static const std::regex conditions(R"re(^\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*CUDA.*))re");
  size_t found = 0;
  for (const std::string& folder : kFolders) {
    for (const Include& include : lines_in(folder, headers)) {
      ++found;
      CHECK_MESSAGE((folder == "kernels" && include.file.starts_with("cuda_")), folder, "/",
                    include.file, " includes ", include.to);
    }
    for (const Include& condition : lines_in(folder, conditions))
      CHECK_MESSAGE(false, folder, "/", condition.file, " asks for", condition.to);
  }
  CHECK(found > 0);
}
