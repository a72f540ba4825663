// What asan must be told when stacks are switched; nothing without it. The words are GCC's macros,
// so this is the emulation's one file with #if.
//
// tsan is told nothing: fibers take turns on one OS thread, which is all that tsan has to know of
// them to judge what OS threads do to each other. With a fiber of tsan's for each of ours a meeting
// took five times as long (5.0 us against 1.0, Zen 5, GCC 12); without, the stacks in its reports
// may name callers from other fibers.
#pragma once

#include <cstddef>

#include "emulation/fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulation {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAsan = true;
#else
inline constexpr bool kAsan = false;
#endif
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kTsan = true;
#else
inline constexpr bool kTsan = false;
#endif

/// Right before a jump to `to`. `fake_stack` is where the one that stops keeps asan's; null where
/// it stops for good.
inline void start_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, to.stack, to.stack_bytes);
#endif
}

/// Right after a jump. Only asan knows the bounds of an OS thread's own stack, and tells them when
/// it was left: `unknown` gets them, where it was the one that jumped.
inline void finish_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] Fiber* unknown) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
  if (unknown == nullptr) return;
  unknown->stack = static_cast<std::byte*>(const_cast<void*>(bottom));
  unknown->stack_bytes = bytes;
#endif
}

/// Memory that was a stack is forgotten as such.
inline void unpoison([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace cuda_emulation
