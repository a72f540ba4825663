#include "runtime/mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace tandem {
namespace {

[[noreturn]] void fail(const std::string& what, int reason) {
  throw Error(fmt::format("{}: {}", what, std::strerror(reason)));
}

/// Closes a file descriptor on every way out.
struct Descriptor {
  int value;
  explicit Descriptor(int descriptor) : value(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};

}  // namespace

Mapping Mapping::of_file(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.value < 0 || fstat(file.value, &status) != 0) fail(path + ": cannot open", errno);
  if (!S_ISREG(status.st_mode)) throw Error(path + ": not an ordinary file, expected a GGUF model");
  if (status.st_size == 0) return Mapping({});
  const auto size = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (data == MAP_FAILED) fail(path + ": cannot map", errno);
  return Mapping({static_cast<std::byte*>(data), size});
}

Mapping Mapping::reserve(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) fail(fmt::format("cannot reserve {} bytes for weights", bytes), errno);
  madvise(data, size, MADV_HUGEPAGE);  // advice only: without it the pages are small, nothing more
  return Mapping({static_cast<std::byte*>(data), size});
}

Mapping::Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

void Mapping::release(const std::byte* data, int64_t bytes) const {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t offset = data - bytes_.data();
  const int64_t begin = (offset + page - 1) / page * page;
  const int64_t end = (offset + bytes) / page * page;
  if (begin < end) madvise(bytes_.data() + begin, static_cast<size_t>(end - begin), MADV_DONTNEED);
}

}  // namespace tandem
