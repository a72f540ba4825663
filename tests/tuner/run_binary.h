// Runs the built `tandem` as a user would: in a folder of its own, its output kept.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace tandem {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A folder that is removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tandem-test-XXXXXX").string();
    if (!mkdtemp(name.data())) std::abort();
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names.insert(entry.path().filename().string());
    return names;
  }

 private:
  std::filesystem::path path_;
};

struct Finished {
  int exit_code = 0;  ///< -1 where a signal ended it
  std::string out;
  std::string err;
};

/// `program` and `arguments` as a shell takes them; the working folder is `folder`.
inline Finished run_program(const TemporaryFolder& folder, const std::string& program,
                            const std::string& arguments) {
  const TemporaryFolder output;
  // The arguments come last, so that a redirection among them wins.
  const std::string command = "cd '" + folder.path().string() + "' && " + program + " >'" +
                              (output / "out").string() + "' 2>'" + (output / "err").string() +
                              "' </dev/null " + arguments;
  const int status = std::system(command.c_str());
  return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          .out = read_text(output / "out"),
          .err = read_text(output / "err")};
}

inline Finished run_tandem(const TemporaryFolder& folder, const std::string& arguments) {
  // Set where the tests themselves run under an emulator of another CPU.
  const char* launcher = std::getenv("TANDEM_TEST_LAUNCHER");
  return run_program(folder, std::string(launcher == nullptr ? "" : launcher) + " " TANDEM_BINARY,
                     arguments);
}

}  // namespace tandem
