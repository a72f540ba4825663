// The only PTX of the program: what CUDA C++ has no words for. The emulation in
// tests/cuda_emulation/ has a twin of this file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tandem::cuda {

/// The device's clock, the same for all of its multiprocessors; not the host's clock. Volatile, or
/// two readings would become one.
__device__ inline uint64_t global_timer_ns() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

/// Loads 16 or 8 bytes of device memory that no kernel writes meanwhile and that are read once:
/// they leave what L1 holds alone. Not volatile, so that the compiler may have many in flight.
__device__ inline uint4 load_streaming(const uint4* address) {
  uint4 value;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
      : "l"(address));
  return value;
}

__device__ inline uint2 load_streaming(const uint2* address) {
  uint2 value;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
      : "=r"(value.x), "=r"(value.y)
      : "l"(address));
  return value;
}

/// Loads a flag that another device or the host writes: what was written before it is seen after.
__device__ inline uint32_t load_acquire_system(const uint32_t* address) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

/// Stores a flag that another device or the host reads, after everything this thread has written.
__device__ inline void store_release_system(uint32_t* address, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

}  // namespace tandem::cuda
