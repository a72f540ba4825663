// What a kernel knows of its thread, its warp and its block, and how it meets the others: barriers,
// shuffles, votes. Every function remembers where it was called, so that a meeting which some
// thread never comes to is reported there.
#pragma once

#include <bit>
#include <cstdint>
#include <source_location>
#include <type_traits>

#include "emulation/vector_types.h"

inline constexpr int warpSize = 32;
// Of the thread that runs; set when another one goes on. Kernels only read them.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;

namespace cuda_emulation {

using Place = std::source_location;

/// What a block's barrier counted.
struct Votes {
  int in_favour = 0;
  int all = 0;
};
Votes meet_block(const char* name, bool vote, Place place);

enum class Exchange : uint8_t { kNothing, kShuffle, kBallot, kAnd, kOr, kXor, kAdd, kMin, kMax };
struct WarpMeeting {
  const char* name = "";
  Place place;
  uint32_t mask = 0;
  Exchange exchange = Exchange::kNothing;
  bool is_signed = false;  ///< of kMin and kMax
  uint64_t value = 0;      ///< what this lane brings
  int source = 0;          ///< the lane that this one wants the value of (kShuffle)
};
/// What this lane takes away. By value, here and below: whatever has an address makes frames of
/// kernels larger and slower under asan.
uint64_t meet_warp(WarpMeeting meeting);

int this_lane();
/// Lets other threads of the block go on, and other OS threads.
void yield_thread();

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<uint64_t>(value);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<uint32_t>(value);
  } else {
    return std::bit_cast<uint16_t>(value);
  }
}
template <class T>
T from_bits(uint64_t bits) {
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<T>(bits);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(static_cast<uint32_t>(bits));
  } else {
    return std::bit_cast<T>(static_cast<uint16_t>(bits));
  }
}

template <class T>
T shuffle(const char* name, uint32_t mask, T value, int source, Place place) {
  return from_bits<T>(meet_warp({.name = name,
                                 .place = place,
                                 .mask = mask,
                                 .exchange = Exchange::kShuffle,
                                 .value = to_bits(value),
                                 .source = source}));
}
template <class T>
T reduce(const char* name, uint32_t mask, Exchange exchange, T value, Place place) {
  return from_bits<T>(meet_warp({.name = name,
                                 .place = place,
                                 .mask = mask,
                                 .exchange = exchange,
                                 .is_signed = std::is_signed_v<T>,
                                 .value = to_bits(value)}));
}

}  // namespace cuda_emulation

inline void __syncthreads(cuda_emulation::Place place = cuda_emulation::Place::current()) {
  cuda_emulation::meet_block("__syncthreads", false, place);
}
inline int __syncthreads_count(int predicate,
                               cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return cuda_emulation::meet_block("__syncthreads_count", predicate != 0, place).in_favour;
}
inline int __syncthreads_or(int predicate,
                            cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return cuda_emulation::meet_block("__syncthreads_or", predicate != 0, place).in_favour > 0;
}
inline int __syncthreads_and(int predicate,
                             cuda_emulation::Place place = cuda_emulation::Place::current()) {
  const auto votes = cuda_emulation::meet_block("__syncthreads_and", predicate != 0, place);
  return votes.in_favour == votes.all;
}

inline void __syncwarp(unsigned mask = 0xffffffff,
                       cuda_emulation::Place place = cuda_emulation::Place::current()) {
  cuda_emulation::meet_warp({.name = "__syncwarp", .place = place, .mask = mask});
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return static_cast<unsigned>(
      cuda_emulation::meet_warp({.name = "__ballot_sync",
                                 .place = place,
                                 .mask = mask,
                                 .exchange = cuda_emulation::Exchange::kBallot,
                                 .value = predicate != 0}));
}
inline int __any_sync(unsigned mask, int predicate,
                      cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return __ballot_sync(mask, predicate, place) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return __ballot_sync(mask, predicate, place) == mask;
}
/// Not a meeting, and no guarantee: nothing but the calling lane.
inline unsigned __activemask() { return 1u << cuda_emulation::this_lane(); }

// A lane outside of the segment of `width` lanes keeps its own value (PTX ISA, shfl.sync).
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              cuda_emulation::Place place = cuda_emulation::Place::current()) {
  const int segment = cuda_emulation::this_lane() & -width;
  return cuda_emulation::shuffle("__shfl_sync", mask, value, segment + (source & (width - 1)),
                                 place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  cuda_emulation::Place place = cuda_emulation::Place::current()) {
  const int lane = cuda_emulation::this_lane();
  const int source = lane ^ lane_mask;
  // A lane of a lower segment may be read, one of a higher segment may not.
  const bool inside = source < (lane & -width) + width;
  return cuda_emulation::shuffle("__shfl_xor_sync", mask, value, inside ? source : lane, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   cuda_emulation::Place place = cuda_emulation::Place::current()) {
  const int lane = cuda_emulation::this_lane();
  const int source = lane + static_cast<int>(delta);
  const bool inside = source < (lane & -width) + width;
  return cuda_emulation::shuffle("__shfl_down_sync", mask, value, inside ? source : lane, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 cuda_emulation::Place place = cuda_emulation::Place::current()) {
  const int lane = cuda_emulation::this_lane();
  const int source = lane - static_cast<int>(delta);
  const bool inside = source >= (lane & -width);
  return cuda_emulation::shuffle("__shfl_up_sync", mask, value, inside ? source : lane, place);
}

// Integers of 32 bits, from capability 8.0 on.
template <class T>
T __reduce_add_sync(unsigned mask, T value,
                    cuda_emulation::Place place = cuda_emulation::Place::current()) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4);
  return cuda_emulation::reduce("__reduce_add_sync", mask, cuda_emulation::Exchange::kAdd, value,
                                place);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value,
                    cuda_emulation::Place place = cuda_emulation::Place::current()) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4);
  return cuda_emulation::reduce("__reduce_min_sync", mask, cuda_emulation::Exchange::kMin, value,
                                place);
}
template <class T>
T __reduce_max_sync(unsigned mask, T value,
                    cuda_emulation::Place place = cuda_emulation::Place::current()) {
  static_assert(std::is_integral_v<T> && sizeof(T) == 4);
  return cuda_emulation::reduce("__reduce_max_sync", mask, cuda_emulation::Exchange::kMax, value,
                                place);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return cuda_emulation::reduce("__reduce_and_sync", mask, cuda_emulation::Exchange::kAnd, value,
                                place);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return cuda_emulation::reduce("__reduce_or_sync", mask, cuda_emulation::Exchange::kOr, value,
                                place);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value,
                                  cuda_emulation::Place place = cuda_emulation::Place::current()) {
  return cuda_emulation::reduce("__reduce_xor_sync", mask, cuda_emulation::Exchange::kXor, value,
                                place);
}

inline void __nanosleep(unsigned /*ns*/) { cuda_emulation::yield_thread(); }
