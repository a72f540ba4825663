// The twin of kernels/cuda_ptx.cuh for the emulation, found first by the order of include folders.
#pragma once

#include <cuda_runtime.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

namespace tandem::cuda {

/// A GPU's global timer does not start when the host's clocks do: who forgets the offset between
/// the two sees it.
inline constexpr uint64_t kEmulatedTimerStart = 1'700'000'000'000'000'000;

inline uint64_t global_timer_ns() { return kEmulatedTimerStart + static_cast<uint64_t>(clock64()); }

template <class Word>
Word load_streaming(const Word* address,
                    std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("load_streaming", address, place);
}

/// Also lets others run, since a kernel calls it again and again until somebody has written.
inline uint32_t load_acquire_system(const uint32_t* address) {
  cuda_emulation::yield_thread();
  return std::atomic_ref<uint32_t>(*const_cast<uint32_t*>(address)).load(std::memory_order_acquire);
}

inline void store_release_system(uint32_t* address, uint32_t value) {
  std::atomic_ref<uint32_t>(*address).store(value, std::memory_order_release);
}

}  // namespace tandem::cuda
