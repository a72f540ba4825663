// Writing a file so that an interrupted run leaves the old one. Reading is everyone's own.
#pragma once

#include <string>
#include <string_view>

namespace tandem {

/// The name under which this process writes a file before it is renamed to `path`.
std::string temporary_name(const std::string& path);

/// A file that is written piece by piece and appears at `path` only when it is complete. Every
/// failure throws Error `PATH: ...` with the system's reason and leaves `path` as it was.
class AtomicFile {
 public:
  /// Creates the temporary file.
  explicit AtomicFile(const std::string& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Removes the temporary file unless it was committed.
  ~AtomicFile();

  void write(std::string_view bytes);
  /// Flushes to the disk and renames to `path`.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

/// Writes `text` under a temporary name in the same folder, flushes it to the disk and renames it
/// to `path`. Error `PATH: ...` with the system's reason; the temporary is removed then and `path`
/// is as it was.
void write_file_atomically(const std::string& path, std::string_view text);

}  // namespace tandem
