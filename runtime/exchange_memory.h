// Host memory that all units of an executor work on or copy from.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/memory.h"

namespace tandem {

/// Hands out zeroed memory that every device was told of, for as long as this lives.
class ExchangeMemory {
 public:
  explicit ExchangeMemory(std::span<const std::unique_ptr<Device>> devices) : devices_(devices) {}

  /// `count` values of T, zero, page-aligned.
  template <class T>
  std::span<T> take(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if (bytes == 0) return {};
    pieces_.push_back({.memory = map_memory(bytes), .shares = {}});
    Piece& piece = pieces_.back();
    for (const auto& device : devices_)
      piece.shares.push_back(device->share(piece.memory.get(), bytes));
    bytes_ += bytes;
    return {reinterpret_cast<T*>(piece.memory.get()), static_cast<size_t>(count)};
  }

  int64_t bytes() const { return bytes_; }

 private:
  struct Piece {
    std::shared_ptr<std::byte[]> memory;
    std::vector<std::shared_ptr<void>> shares;  ///< end before the memory does
  };
  std::span<const std::unique_ptr<Device>> devices_;
  std::vector<Piece> pieces_;
  int64_t bytes_ = 0;
};

}  // namespace tandem
