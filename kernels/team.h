// The threads of one CPU unit: worker 0 is whoever drives it, the others are pinned and spin during
// a step.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/flag.h"
#include "kernels/range.h"

namespace tandem {

/// Fork and join over a fixed set of pinned threads. One driver at a time.
class Team {
 public:
  /// One worker per entry of `cores` (logical CPU numbers); the driver takes the first.
  Team(std::vector<int> cores, bool yield);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return static_cast<int>(cores_.size()); }

  /// Pins the calling thread as worker 0 and wakes the others; between wake() and rest() nobody
  /// sleeps.
  void wake();
  void rest();

  /// Calls f(worker) once on every worker and returns when all have.
  template <class Function>
  void run(const Function& f) {
    run_erased(
        [](const void* context, int worker) { (*static_cast<const Function*>(context))(worker); },
        &f);
  }

  /// Calls f(worker, items) over [0, n) in pieces of at least `grain`, taken as workers come free:
  /// cores of a virtual machine are not equally fast for long.
  template <class Function>
  void for_each(int64_t n, int64_t grain, const Function& f) {
    if (size() == 1 || n <= grain) {
      if (n > 0) f(0, Range{0, n});
      return;
    }
    const int64_t piece = std::max(grain, n / (8 * size()));
    next_.store(0, std::memory_order_relaxed);
    run([&](int worker) {
      for (;;) {
        const int64_t begin = next_.fetch_add(piece, std::memory_order_relaxed);
        if (begin >= n) return;
        f(worker, Range{begin, std::min(begin + piece, n)});
      }
    });
  }

 private:
  using Job = void (*)(const void* context, int worker);
  void run_erased(Job job, const void* context);
  void work(int worker);
  bool wait_for_job(uint32_t seen) const;

  std::vector<int> cores_;
  bool yield_;
  Job job_ = nullptr;
  const void* context_ = nullptr;
  std::thread::id driver_;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<uint32_t> awake_{0};
  alignas(64) std::atomic<int> pending_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

/// Pins the calling thread to one logical CPU; what the system refuses is left as it was.
void pin_this_thread(int core);

}  // namespace tandem
