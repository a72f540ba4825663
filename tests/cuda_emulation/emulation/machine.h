// The emulated machine: what tests may set, whether the devices still work, and the errors that
// calls leave behind.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "emulation/runtime_api.h"

namespace cuda_emulation {

inline constexpr int kDevices = 2;
inline constexpr int64_t kMemoryBytes = int64_t{8} << 30;
inline constexpr int kMostPeers = 64;

struct Machine {
  std::atomic<int> devices{kDevices};
  std::atomic<int> driver_version{CUDART_VERSION};
  std::atomic<int64_t> memory_bytes{kMemoryBytes};
  std::atomic<bool> integrated{false};
  std::atomic<bool> stream_memory_ops{true};
  std::atomic<bool> blas{true};
  std::atomic<bool> peer_access{true};
  /// [device] bit p: it was given access to device p.
  std::array<std::atomic<uint64_t>, kMostPeers> peers{};

  std::atomic<bool> lost{false};
  std::atomic<int> calls_left{-1};       ///< before the devices are lost, -1 = never
  std::atomic<int> operations_left{-1};  ///< likewise, counted where they run

  std::atomic<int> streams{0};
  std::atomic<int> events{0};
  std::atomic<int> graphs{0};
};
/// Never destroyed: streams that a program leaves behind use it to the end.
Machine& machine();

/// Whether anything can be asked of the devices.
cudaError_t ready();
/// Counts a call that queues work; an error where the devices are lost, with this call or before.
cudaError_t count_call();
/// Counts an operation that a stream is about to execute; false where it is not to be.
bool count_operation();
/// What a call answers: errors are kept for cudaGetLastError().
cudaError_t answer(cudaError_t status);

int current_device();
/// cudaSuccess where the machine has a device of this number.
cudaError_t check_device(int device);

}  // namespace cuda_emulation
