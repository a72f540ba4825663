#include "kernels/file.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "kernels/error.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

/// An empty folder that goes away with the test.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("tandem_file_test_" + std::to_string(getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  long entries() const { return std::distance(fs::directory_iterator(path), {}); }
};

std::string content(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a file is written whole and nothing else is left beside it") {
  const Folder folder;
  write_file_atomically(folder.path / "a.yaml", "one");
  write_file_atomically(folder.path / "a.yaml", "two\n");
  CHECK(content(folder.path / "a.yaml") == "two\n");
  CHECK(folder.entries() == 1);
}

TEST_CASE("a folder that does not exist is named in the error") {
  const Folder folder;
  CHECK_THROWS_WITH_AS(write_file_atomically(folder.path / "no/a.yaml", "x"),
                       doctest::Contains("no/a.yaml: cannot create the file: No such file"), Error);
}

TEST_CASE("a rename that fails removes the temporary file and leaves the target") {
  const Folder folder;
  fs::create_directory(folder.path / "taken");  // a folder cannot be replaced by a file
  CHECK_THROWS_AS(write_file_atomically(folder.path / "taken", "x"), Error);
  CHECK(fs::is_directory(folder.path / "taken"));
  CHECK(folder.entries() == 1);
}
