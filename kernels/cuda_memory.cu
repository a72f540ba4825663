#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_memory.cuh"
#include "kernels/range.h"

namespace tandem::cuda {

Bytes device_memory(int device, int64_t bytes) {
  void* memory = nullptr;
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  const cudaError_t status = cudaMalloc(&memory, size);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the refusal harms nothing else
    size_t left = 0, all = 0;
    TANDEM_CUDA_CHECK(cudaMemGetInfo(&left, &all));
    throw Error(fmt::format(
        "the device refused {} bytes of {} free; use --budget gpu{}=... or a smaller context",
        bytes, left, device));
  }
  check(status, "cudaMalloc");
  return {static_cast<std::byte*>(memory), [device](std::byte* p) {
            cudaSetDevice(device);
            cudaFree(p);
          }};
}

Bytes pinned_memory(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t status =
      cudaHostAlloc(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1)),
                    cudaHostAllocPortable | cudaHostAllocMapped);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error(fmt::format(
        "the system refused {} bytes of pinned host memory; stream less or use a smaller model",
        bytes));
  }
  check(status, "cudaHostAlloc");
  return {static_cast<std::byte*>(memory), [](std::byte* p) { cudaFreeHost(p); }};
}

std::byte* device_address(std::byte* pinned) {
  void* address = nullptr;
  TANDEM_CUDA_CHECK(cudaHostGetDevicePointer(&address, pinned, 0));
  return static_cast<std::byte*>(address);
}

namespace {

/// Host memory that is locked and mapped for all devices. CUDA does it once for the process, while
/// two units share the same buffers: whoever comes first locks, whoever goes last unlocks.
class LockedPages {
 public:
  LockedPages(int device, std::byte* memory, int64_t bytes) : memory_(memory) {
    Table& all = table();
    const std::lock_guard guard(all.mutex);
    Entry& entry = all.entries[memory];
    if (entry.holders == 0) {
      try {
        entry = {.bytes = bytes, .device = device, .ours = lock(memory, bytes)};
      } catch (...) {
        all.entries.erase(memory);
        throw;
      }
    }
    if (entry.bytes != bytes)
      throw std::logic_error("exchanged memory was shared before with another size");
    ++entry.holders;
  }
  ~LockedPages() {
    Table& all = table();
    const std::lock_guard guard(all.mutex);
    const auto found = all.entries.find(memory_);
    if (--found->second.holders > 0) return;
    if (found->second.ours) {
      cudaSetDevice(found->second.device);
      cudaHostUnregister(memory_);
    }
    all.entries.erase(found);
  }
  LockedPages(const LockedPages&) = delete;
  LockedPages& operator=(const LockedPages&) = delete;

 private:
  struct Entry {
    int64_t bytes = 0;
    int device = 0;
    bool ours = false;  ///< someone else, whom we do not know, may have locked it before
    int holders = 0;
  };
  struct Table {
    std::mutex mutex;
    std::map<std::byte*, Entry> entries;
  };
  static Table& table() {
    static Table all;
    return all;
  }

  /// False where it was locked already.
  static bool lock(std::byte* memory, int64_t bytes) {
    const cudaError_t status = cudaHostRegister(memory, static_cast<size_t>(bytes),
                                                cudaHostRegisterPortable | cudaHostRegisterMapped);
    if (status == cudaErrorHostMemoryAlreadyRegistered) {
      cudaGetLastError();
      return false;
    }
    check(status, "cudaHostRegister");
    return true;
  }

  std::byte* memory_;
};

}  // namespace

/// What share() gives out: the region is forgotten, the copy freed, the pages unlocked.
struct ExchangedMemory::Handle {
  int device;
  LockedPages pages;
  Bytes copy;
  std::vector<Bytes> borrowed;  ///< other devices' copies, which kernels of this one read
  std::weak_ptr<Regions> regions;
  const std::byte* host;

  Handle(int index, std::byte* memory, int64_t bytes)
      : device(index), pages(index, memory, bytes), host(memory) {}
  ~Handle() {
    cudaSetDevice(device);
    cudaDeviceSynchronize();  // a step that failed may still be on its way
    if (const auto all = regions.lock())
      std::erase_if(*all, [&](const Region& r) { return r.host == host; });
  }
};

ExchangedMemory::ExchangedMemory(int device, bool unified, cudaStream_t stream)
    : device_(device), unified_(unified), stream_(stream) {}

std::shared_ptr<void> ExchangedMemory::share(std::byte* memory, int64_t bytes) {
  // Whole pages are locked: two pieces on one page could not be locked apart.
  if (reinterpret_cast<uintptr_t>(memory) % 4096 != 0 || bytes <= 0)
    throw std::logic_error("exchanged memory begins on a page and is not empty: use map_memory()");
  auto handle = std::make_shared<Handle>(device_, memory, bytes);
  std::byte* shared = device_address(memory);
  if (!unified_) {
    handle->copy = device_memory(device_, bytes);
    TANDEM_CUDA_CHECK(cudaMemcpyAsync(handle->copy.get(), memory, static_cast<size_t>(bytes),
                                      cudaMemcpyHostToDevice, stream_));
    TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream_));
  }
  insert({.host = memory,
          .bytes = bytes,
          .shared = shared,
          .own = unified_ ? shared : handle->copy.get(),
          .handle = handle.get()});
  handle->regions = regions_;
  return handle;
}

const std::byte* ExchangedMemory::borrow(const ExchangedMemory& owner, const std::byte* p) const {
  const Region& theirs = owner.region(p);
  std::vector<Bytes>& borrowed = region(p).handle->borrowed;
  if (std::find(borrowed.begin(), borrowed.end(), theirs.handle->copy) == borrowed.end())
    borrowed.push_back(theirs.handle->copy);
  return theirs.own + owner.offset(p);
}

void ExchangedMemory::insert(const Region& region) {
  const auto next = std::upper_bound(
      regions_->begin(), regions_->end(), region,
      [](const Region& a, const Region& b) { return std::less<>()(a.host, b.host); });
  const bool overlaps =
      (next != regions_->end() && next->host < region.host + region.bytes) ||
      (next != regions_->begin() && std::prev(next)->host + std::prev(next)->bytes > region.host);
  if (overlaps) throw std::logic_error("exchanged memory was shared with this device before");
  regions_->insert(next, region);
}

const ExchangedMemory::Region& ExchangedMemory::region(const void* p) const {
  const auto* address = static_cast<const std::byte*>(p);
  const auto next = std::upper_bound(
      regions_->begin(), regions_->end(), address,
      [](const std::byte* a, const Region& r) { return std::less<>()(a, r.host); });
  if (next == regions_->begin() || address - std::prev(next)->host >= std::prev(next)->bytes)
    throw std::logic_error("a stage was given memory that was not shared with this device");
  return *std::prev(next);
}

bool ExchangedMemory::contains(const void* p, int64_t bytes) const {
  return offset(p) + bytes <= region(p).bytes;
}

}  // namespace tandem::cuda
