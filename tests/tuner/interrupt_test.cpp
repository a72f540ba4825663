#include "tuner/interrupt.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "kernels/file.h"
#include "tests/tuner/run_binary.h"

namespace tandem {
namespace {

/// Exit code of a child that installs the handlers, announces an output and does `work`; minus the
/// signal that ended it.
template <class Work>
int end_of_child(const std::string& output, const std::string& errors, const Work& work) {
  const pid_t child = fork();
  if (child == 0) {
    const int file = open(errors.c_str(), O_CREAT | O_WRONLY, 0600);
    dup2(file, STDERR_FILENO);
    handle_interrupts();
    remove_on_interrupt(output);
    work();
    _exit(77);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_CASE("a mapped file that is cut short ends the program with one line and code 2") {
  const TemporaryFolder folder;
  const std::string model = folder / "model", errors = folder / "errors";
  std::ofstream(model) << std::string(8192, 'x');
  const auto read_lost_page = [&] {
    const int file = open(model.c_str(), O_RDONLY);
    const auto* bytes =
        static_cast<const volatile char*>(mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE, file, 0));
    std::filesystem::resize_file(model, 4096);
    _exit(bytes[5000] + 10);
  };
  CHECK(end_of_child(folder / "out", errors, read_lost_page) == 2);
  const std::string line = read_text(errors);
  CHECK(line.find("cut short") != std::string::npos);
  CHECK(line.find('\n') == line.size() - 1);
}

TEST_CASE("an interrupted program leaves no temporary file and dies of the signal") {
  const TemporaryFolder folder;
  const auto interrupt = [&] {
    std::ofstream(temporary_name(folder / "out")) << "half";
    std::raise(SIGINT);
  };
  CHECK(end_of_child(folder / "out", folder / "errors", interrupt) == -SIGINT);
  CHECK(folder.names() == std::set<std::string>{"errors"});
}

}  // namespace
}  // namespace tandem
