// A range of mapped pages that is unmapped when it dies. It knows nothing of what the bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tandem {

class Mapping {
 public:
  /// The whole of a file, read-only. Error `PATH: ...` where it cannot be opened or is not an
  /// ordinary file; an empty file maps to no bytes.
  static Mapping of_file(const std::string& path);
  /// Zeroed address space: a page costs memory from its first write on. Error naming `bytes` where
  /// the system refuses.
  static Mapping reserve(int64_t bytes);

  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  std::span<const std::byte> bytes() const { return bytes_; }
  std::byte* data() const { return bytes_.data(); }  ///< writable only where reserved
  /// Gives the pages that lie wholly in [data, data + bytes) back to the system: those of a file
  /// are read again when touched, those that were reserved are zero again.
  void release(const std::byte* data, int64_t bytes) const;

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}

  std::span<std::byte> bytes_;
};

}  // namespace tandem
