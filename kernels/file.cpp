#include "kernels/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kernels/error.h"

namespace tandem {

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("create");
}

AtomicFile::~AtomicFile() {
  close(descriptor_);
  if (!committed_) unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written >= 0)
      bytes.remove_prefix(static_cast<size_t>(written));
    else if (errno != EINTR)
      fail("write");
  }
}

void AtomicFile::commit() {
  // Without this a crash after the rename could leave an empty file in place of the old one.
  if (fsync(descriptor_) != 0 && errno != EINVAL) fail("write");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename to");
  committed_ = true;
}

void AtomicFile::fail(const char* what) const {
  throw Error(fmt::format("{}: cannot {} the file: {}", path_, what, std::strerror(errno)));
}

std::string temporary_name(const std::string& path) {
  return fmt::format("{}.{}.tmp", path, getpid());
}

void write_file_atomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace tandem
