// Hand-offs between threads that spin: how to wait, and the flag that one unit raises for the
// others.
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

/// Raised by one producer to the number of the step it has finished its task in; one cache line
/// each.
struct alignas(64) Flag {
  std::atomic<uint32_t> step{0};

  void raise(uint32_t number) { step.store(number, std::memory_order_release); }
  bool raised(uint32_t number) const { return step.load(std::memory_order_acquire) == number; }
};

/// Turns of a spin loop before a thread that has nothing to do between steps goes to sleep (about
/// 100 us): a futex wake costs 20 us, more than the gap between two decode steps.
inline constexpr int kIdleSpins = 3000;

}  // namespace tandem
