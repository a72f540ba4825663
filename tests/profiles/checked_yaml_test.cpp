#include "profiles/checked_yaml.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "kernels/error.h"
#include "kernels/file.h"

using namespace tandem;

namespace {

/// Reads `text` as a file; the message of the Error that `use` ends with, without the folder, or
/// "".
std::string message(std::string_view text, const std::function<void(const CheckedYaml&)>& use) {
  const auto folder = std::filesystem::temp_directory_path();
  const std::string path = folder / ("checked_yaml_" + std::to_string(getpid()) + ".yaml");
  write_file_atomically(path, text);
  std::string what;
  try {
    use(CheckedYaml::load(path));
  } catch (const Error& e) {
    what = e.what();
  }
  std::filesystem::remove(path);
  return what.empty() ? what : what.substr(path.size());
}

}  // namespace

TEST_CASE("values are read as what they are") {
  CHECK(message("a: 3\nb: 0.5\nc: true\nd: [x, y]\n", [](const CheckedYaml& root) {
          CHECK(root.at("a").integer() == 3);
          CHECK(root.at("b").number() == 0.5);
          CHECK(root.at("c").boolean());
          CHECK(root.at("d").items()[1].text() == "y");
          CHECK_FALSE(root.find("e").has_value());
          CHECK(root.entries()[3].second.line() == 4);
        }) == "");
}

TEST_CASE("every mistake is named with its line") {
  const auto use = [](auto read) { return [=](const CheckedYaml& root) { read(root); }; };
  CHECK(message("a: 1\nb: 2\n", use([](auto& root) {
                  root.allow_keys({"a", "c"});
                })) == ":2: unknown key b; known: a, c");
  CHECK(message("a: 1\na: 2\n", use([](auto& root) { root.entries(); })) ==
        ":2: key: a occurs twice");
  CHECK(message("a: 1\n", use([](auto& root) { root.at("b"); })) == ":1: b is missing");
  CHECK(message("a:\n  - 1\n  - x\n", use([](auto& root) { root.at("a").items()[1].integer(); })) ==
        ":3: a[1]: x is no integer");
  CHECK(message("a: -1\n", use([](auto& root) { root.at("a").integer(0); })) ==
        ":1: a: -1 is too small; expected at least 0");
  CHECK(message("a: 7\n", use([](auto& root) { root.at("a").integer(0, 5); })) ==
        ":1: a: 7 is out of range; expected 0 to 5");
  CHECK(message("a: nan\n", use([](auto& root) { root.at("a").number(); })) ==
        ":1: a: nan is no number");
  CHECK(message("a: [1]\n", use([](auto& root) { root.at("a").text(); })) ==
        ":1: a: found a list; expected text");
  CHECK(message("a: 1\n", use([](auto& root) { root.at("a").items(); })) ==
        ":1: a: found a value; expected a list");
  CHECK(message("a: 1\n", use([](auto& root) { root.at("a").entries(); })) ==
        ":1: a: found a value; expected a map");
  CHECK(message("a: yes\n", use([](auto& root) { root.at("a").boolean(); })) ==
        ":1: a: yes is neither true nor false");
  CHECK(message("a: [1\nb: }\n", use([](auto&) {})).find(": not YAML: ") != std::string::npos);
  CHECK_THROWS_WITH_AS(CheckedYaml::load("/nowhere/x.yaml"),
                       "/nowhere/x.yaml: cannot be read; expected a YAML file", Error);
}
