// Hand-offs between threads that spin: how to wait, and the flag that one unit raises for another.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace tandem {

/// One turn of a spin loop. `yield` gives the core away: needed where threads outnumber cores.
inline void relax(bool yield) {
  if (yield) {
    sched_yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Raised by one producer, lowered by its one consumer, once a step each; one cache line. The
/// values are the same every step, so that a GPU can replay a recorded wait.
struct alignas(64) Flag {
  static constexpr uint32_t kLowered = 0, kRaised = 1, kCancelled = 2;
  std::atomic<uint32_t> value{kLowered};

  void raise() { value.store(kRaised, std::memory_order_release); }
  /// Lets a waiting consumer go on although its producer failed.
  void cancel() { value.store(kCancelled, std::memory_order_release); }
  /// Lowers a raised flag; false while it is not raised. A cancelled one stays as it is.
  bool take() {
    const uint32_t seen = value.load(std::memory_order_acquire);
    if (seen == kRaised) value.store(kLowered, std::memory_order_relaxed);
    return seen != kLowered;
  }
};

/// Turns of a spin loop before a thread that has nothing to do between steps goes to sleep (about
/// 100 us): a futex wake costs 20 us, more than the gap between two decode steps.
inline constexpr int kIdleSpins = 3000;

}  // namespace tandem
