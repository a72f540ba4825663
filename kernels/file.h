// Writing a file so that an interrupted run leaves the old one. Reading is everyone's own.
#pragma once

#include <string>
#include <string_view>

namespace tandem {

/// The name under which this process writes a file before it is renamed to `path`.
std::string temporary_name(const std::string& path);

/// Writes `text` under a temporary name in the same folder, flushes it to the disk and renames it
/// to `path`. Error `PATH: ...` with the system's reason; the temporary is removed then and `path`
/// is as it was.
void write_file_atomically(const std::string& path, std::string_view text);

}  // namespace tandem
