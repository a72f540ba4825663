#include "kernels/team.h"

#include <pthread.h>

#include <utility>

namespace tandem {

namespace {

void pin(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(core), &set);
  pthread_setaffinity_np(thread, sizeof set, &set);
}

}  // namespace

void pin_this_thread(int core) { pin(pthread_self(), core); }
void pin_thread(std::thread& thread, int core) { pin(thread.native_handle(), core); }

Team::Team(std::vector<int> cores, bool yield)
    : cores_(std::move(cores)), yield_(yield), shares_(cores_.size()) {
  for (int worker = 1; worker < size(); ++worker) {
    workers_.emplace_back([this, worker] { work(worker); });
    pin_thread(workers_.back(), cores_[static_cast<size_t>(worker)]);
  }
}

Team::~Team() {
  stop_.store(true);
  wake();
  for (std::thread& worker : workers_) worker.join();
}

void Team::wake() {
  // Each time: whoever drives may have driven another team in between.
  if (!stop_.load()) pin_this_thread(cores_.front());
  awake_.store(1);
  awake_.notify_all();
}

void Team::rest() { awake_.store(0); }

void Team::run_erased(Job job, const void* context) noexcept {
  job_ = job;
  context_ = context;
  pending_.store(size() - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  job(context, 0);
  while (pending_.load(std::memory_order_acquire) != 0) relax(yield_);
}

/// False when the team is to end.
bool Team::wait_for_job(uint32_t seen) const {
  int idle = 0;
  while (epoch_.load(std::memory_order_acquire) == seen) {
    if (stop_.load(std::memory_order_relaxed)) return false;
    if (awake_.load(std::memory_order_relaxed) != 0) {
      idle = 0;
    } else if (yield_ || ++idle > kIdleSpins) {
      awake_.wait(0);
    }
    relax(yield_);
  }
  return true;
}

void Team::work(int worker) {
  for (uint32_t seen = 0; wait_for_job(seen); ++seen) {
    job_(context_, worker);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace tandem
