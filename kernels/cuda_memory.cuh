// The CUDA unit's memory: its own, pinned host memory, and the copies that it keeps of exchanged
// memory. No kernel is launched here.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace tandem::cuda {

using Bytes = std::shared_ptr<std::byte[]>;

/// Memory of a device, which is the current one. Error where it has no more.
Bytes device_memory(int device, int64_t bytes);
/// Host memory that every device may copy from and to, and reach by address.
Bytes pinned_memory(int64_t bytes);
/// The current device's address of pinned memory.
std::byte* device_address(std::byte* pinned);

/// Scratch that is made larger when it has to be; what it held is lost then.
struct Buffer {
  Bytes memory;
  int64_t bytes = 0;
};

/// Host memory that is exchanged with other units, as one device sees it: where it lies itself, and
/// the device's own copy of it. On a device that shares the host's memory the two are the same.
class ExchangedMemory {
 public:
  /// Copies are made on `stream`.
  ExchangedMemory(int device, bool unified, cudaStream_t stream);

  /// Locks and maps host memory and makes the copy, with the content that it has now. Undone with
  /// the handle, which may outlive this object. `memory` begins on a page.
  std::shared_ptr<void> share(std::byte* memory, int64_t bytes);

  /// The device's own copy of what p points to; null stays null.
  template <class T>
  T* own(T* p) const {
    return p == nullptr ? nullptr : reinterpret_cast<T*>(region(p).own + offset(p));
  }
  /// The device's address of what p points to.
  template <class T>
  T* shared(T* p) const {
    return p == nullptr ? nullptr : reinterpret_cast<T*>(region(p).shared + offset(p));
  }
  /// Another device's own copy of what p points to; it is kept for as long as this device's own is.
  const std::byte* borrow(const ExchangedMemory& owner, const std::byte* p) const;
  /// Whether `bytes` from p on lie in one piece of exchanged memory.
  bool contains(const void* p, int64_t bytes) const;
  bool unified() const { return unified_; }

 private:
  struct Handle;
  struct Region {
    const std::byte* host = nullptr;
    int64_t bytes = 0;
    std::byte* shared = nullptr;
    std::byte* own = nullptr;
    Handle* handle = nullptr;
  };
  using Regions = std::vector<Region>;  ///< in order of address, disjoint

  /// std::logic_error where p lies in no region: what a stage is given is exchanged memory.
  const Region& region(const void* p) const;
  int64_t offset(const void* p) const { return static_cast<const std::byte*>(p) - region(p).host; }
  void insert(const Region& region);

  int device_;
  bool unified_;
  cudaStream_t stream_;
  std::shared_ptr<Regions> regions_ = std::make_shared<Regions>();
};

}  // namespace tandem::cuda
