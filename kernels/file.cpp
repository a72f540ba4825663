#include "kernels/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kernels/error.h"

namespace tandem {
namespace {

/// A file that is removed again unless it was renamed to where it belongs.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target)
      : target_(target), name_(temporary_name(target)) {
    descriptor_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail("create");
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (!renamed_) unlink(name_.c_str());
  }

  void write_all(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = write(descriptor_, text.data(), text.size());
      if (written >= 0)
        text.remove_prefix(static_cast<size_t>(written));
      else if (errno != EINTR)
        fail("write");
    }
    // Without this a crash after the rename could leave an empty file in place of the old one.
    if (fsync(descriptor_) != 0 && errno != EINVAL) fail("write");
  }

  void move_to_target() {
    if (rename(name_.c_str(), target_.c_str()) != 0) fail("rename to");
    renamed_ = true;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    const int reason = errno;
    // The destructor of a throwing constructor does not run, but then there is no file either.
    throw Error(fmt::format("{}: cannot {} the file: {}", target_, what, std::strerror(reason)));
  }

  std::string target_;
  std::string name_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

}  // namespace

std::string temporary_name(const std::string& path) {
  return fmt::format("{}.{}.tmp", path, getpid());
}

void write_file_atomically(const std::string& path, std::string_view text) {
  TemporaryFile file(path);
  file.write_all(text);
  file.move_to_target();
}

}  // namespace tandem
