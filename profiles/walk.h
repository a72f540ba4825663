// Where probes read next.
#pragma once

#include <cstdint>

namespace tandem {

/// A way through memory that several probes share: each goes on where the last one ended, or at the
/// start where no room is left. Probes with ways of their own would read what another read just
/// before and find it in a cache. (Zen 4, one core, 4.5 MiB of Q4_0 after 1.1 MiB of it: 39.7 GB/s
/// from a memory that gives 30.)
class Walk {
 public:
  explicit Walk(int64_t at = 0) : at_(at) {}

  /// Where the next `size` of `all` begin, size <= all.
  int64_t next(int64_t size, int64_t all) {
    const int64_t begin = at_ + size > all ? 0 : at_;
    at_ = begin + size;
    return begin;
  }

 private:
  int64_t at_;
};

}  // namespace tandem
