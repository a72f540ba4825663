// Memory that CUDA knows: what is allocated on a device, pinned, or registered by the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "emulation/runtime_types.h"

namespace cuda_emulation {

enum class MemoryKind : uint8_t { kDevice, kPinned, kRegistered };

struct Allocation {
  std::byte* base = nullptr;
  size_t bytes = 0;
  MemoryKind kind = MemoryKind::kDevice;
  int device = 0;
  unsigned flags = 0;  ///< as given to cudaHostAlloc or cudaHostRegister
};

class MemoryTable {
 public:
  /// cudaErrorHostMemoryAlreadyRegistered where registered memory shares a page with other such.
  cudaError_t add(const Allocation& allocation);
  /// Takes out what begins at `base` and is of this kind.
  std::optional<Allocation> remove(const void* base, MemoryKind kind);
  /// What `address` lies in.
  std::optional<Allocation> find(const void* address) const;
  int count(MemoryKind kind) const;
  size_t device_bytes(int device) const;

 private:
  // Keys are complements of addresses: a pointer kept here would hide a leak from asan.
  using Hidden = uintptr_t;
  static Hidden hide(const void* p) { return ~reinterpret_cast<uintptr_t>(p); }
  struct Entry {
    size_t bytes;
    MemoryKind kind;
    int device;
    unsigned flags;
  };
  static Allocation shown(Hidden hidden, const Entry& entry);

  mutable std::mutex mutex_;
  std::map<Hidden, Entry> entries_;
};
MemoryTable& memory_table();

}  // namespace cuda_emulation
