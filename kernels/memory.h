// Memory that kernels stream: zeroed, page-aligned, in huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tandem {

/// Zeroed anonymous memory, not yet touched: the first writer decides its NUMA node. Freed with the
/// last reference. Error when the system has no more.
std::shared_ptr<std::byte[]> map_memory(int64_t bytes);

}  // namespace tandem
