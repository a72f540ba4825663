// CUDA's loads and stores with a cache hint, atomics, fences and clocks, for the host. What a
// kernel shares with other OS threads (mapped host memory) is accessed atomically here.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <ctime>
#include <source_location>
#include <type_traits>

namespace cuda_emulation {

[[noreturn]] void report_misaligned(const char* name, const void* address, size_t alignment,
                                    const std::source_location& place);

/// Sanitizer or not: such an access stops a real kernel.
template <class T>
const T* aligned(const char* name, const T* address, std::source_location place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16, "not a load of one thread");
  if (std::bit_cast<uintptr_t>(address) % sizeof(T) != 0)
    report_misaligned(name, address, sizeof(T), place);
  return address;
}

/// Adds, and so on, by a compare-and-swap: for what std::atomic_ref has no operation.
template <class T, class Function>
T update(T* address, Function next) {
  const std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (!target.compare_exchange_weak(old, next(old), std::memory_order_relaxed)) {
  }
  return old;
}

}  // namespace cuda_emulation

template <class T>
T __ldg(const T* address, std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("__ldg", address, place);
}
template <class T>
T __ldca(const T* address, std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("__ldca", address, place);
}
template <class T>
T __ldcg(const T* address, std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("__ldcg", address, place);
}
template <class T>
T __ldcs(const T* address, std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("__ldcs", address, place);
}
template <class T>
T __ldlu(const T* address, std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("__ldlu", address, place);
}
template <class T>
T __ldcv(const T* address, std::source_location place = std::source_location::current()) {
  return *cuda_emulation::aligned("__ldcv", address, place);
}
template <class T>
void __stwb(T* address, std::type_identity_t<T> value,
            std::source_location place = std::source_location::current()) {
  cuda_emulation::aligned("__stwb", address, place);
  *address = value;
}
template <class T>
void __stcg(T* address, std::type_identity_t<T> value,
            std::source_location place = std::source_location::current()) {
  cuda_emulation::aligned("__stcg", address, place);
  *address = value;
}
template <class T>
void __stcs(T* address, std::type_identity_t<T> value,
            std::source_location place = std::source_location::current()) {
  cuda_emulation::aligned("__stcs", address, place);
  *address = value;
}
template <class T>
void __stwt(T* address, std::type_identity_t<T> value,
            std::source_location place = std::source_location::current()) {
  cuda_emulation::aligned("__stwt", address, place);
  *address = value;
}

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return cuda_emulation::update(address, [&](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return cuda_emulation::update(address, [&](T old) { return static_cast<T>(old - value); });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  return cuda_emulation::update(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  return cuda_emulation::update(address, [&](T old) { return old < value ? value : old; });
}
template <class T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return cuda_emulation::update(address, [&](T old) { return old & value; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return cuda_emulation::update(address, [&](T old) { return old | value; });
}
template <class T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return cuda_emulation::update(address, [&](T old) { return old ^ value; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return cuda_emulation::update(address, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  return cuda_emulation::update(address, [&](T old) { return old == compare ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return cuda_emulation::update(address, [&](unsigned old) { return old >= limit ? 0u : old + 1; });
}
inline unsigned atomicDec(unsigned* address, unsigned limit) {
  return cuda_emulation::update(
      address, [&](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}

namespace cuda_emulation {

/// tsan knows no fences: there an operation on one atomic orders all who fence.
void fence();

}  // namespace cuda_emulation

inline void __threadfence_block() { cuda_emulation::fence(); }
inline void __threadfence() { cuda_emulation::fence(); }
inline void __threadfence_system() { cuda_emulation::fence(); }

inline long long clock64() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}
