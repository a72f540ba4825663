#include "emulation/memory_table.h"

namespace cuda_emulation {
namespace {

constexpr uintptr_t kPage = 4096;

/// CUDA locks whole pages.
bool share_a_page(const Allocation& a, const Allocation& b) {
  const auto first = [](const Allocation& x) {
    return reinterpret_cast<uintptr_t>(x.base) / kPage;
  };
  const auto last = [](const Allocation& x) {
    return (reinterpret_cast<uintptr_t>(x.base) + x.bytes - 1) / kPage;
  };
  return first(a) <= last(b) && first(b) <= last(a);
}

}  // namespace

MemoryTable& memory_table() {
  static MemoryTable& all = *new MemoryTable;
  return all;
}

Allocation MemoryTable::shown(Hidden hidden, const Entry& entry) {
  return {.base = reinterpret_cast<std::byte*>(~hidden),
          .bytes = entry.bytes,
          .kind = entry.kind,
          .device = entry.device,
          .flags = entry.flags};
}

cudaError_t MemoryTable::add(const Allocation& allocation) {
  const std::lock_guard guard(mutex_);
  if (allocation.kind == MemoryKind::kRegistered) {
    for (const auto& [hidden, entry] : entries_)
      if (entry.kind == MemoryKind::kRegistered && share_a_page(shown(hidden, entry), allocation))
        return cudaErrorHostMemoryAlreadyRegistered;
  }
  entries_[hide(allocation.base)] = {.bytes = allocation.bytes,
                                     .kind = allocation.kind,
                                     .device = allocation.device,
                                     .flags = allocation.flags};
  return cudaSuccess;
}

std::optional<Allocation> MemoryTable::remove(const void* base, MemoryKind kind) {
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find(hide(base));
  if (found == entries_.end() || found->second.kind != kind) return std::nullopt;
  const Allocation allocation = shown(found->first, found->second);
  entries_.erase(found);
  return allocation;
}

std::optional<Allocation> MemoryTable::find(const void* address) const {
  const std::lock_guard guard(mutex_);
  // Complements are in descending order of addresses: the first one is the nearest base below.
  const auto found = entries_.lower_bound(hide(address));
  if (found == entries_.end()) return std::nullopt;
  const Allocation allocation = shown(found->first, found->second);
  const auto offset = static_cast<const std::byte*>(address) - allocation.base;
  if (static_cast<size_t>(offset) >= allocation.bytes) return std::nullopt;
  return allocation;
}

int MemoryTable::count(MemoryKind kind) const {
  const std::lock_guard guard(mutex_);
  int count = 0;
  for (const auto& [hidden, entry] : entries_) count += entry.kind == kind;
  return count;
}

size_t MemoryTable::device_bytes(int device) const {
  const std::lock_guard guard(mutex_);
  size_t bytes = 0;
  for (const auto& [hidden, entry] : entries_)
    if (entry.kind == MemoryKind::kDevice && entry.device == device) bytes += entry.bytes;
  return bytes;
}

}  // namespace cuda_emulation
