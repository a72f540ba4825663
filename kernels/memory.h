// Memory that kernels stream: zeroed, page-aligned, in huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tandem {

/// Zeroed anonymous memory, not yet touched: the first writer decides its NUMA node. Freed with the
/// last reference. Error when the system has no more.
std::shared_ptr<std::byte[]> map_memory(int64_t bytes);

/// Hands out pieces of large mappings, so that the ends of matrices lie in huge pages too. A
/// mapping is freed with its last piece. One thread at a time.
class Arena {
 public:
  /// As map_memory(), aligned to a cache line.
  std::shared_ptr<std::byte[]> take(int64_t bytes);

 private:
  std::shared_ptr<std::byte[]> mapping_;
  int64_t size_ = 0;
  int64_t used_ = 0;
};

}  // namespace tandem
