#include "profiles/pinned.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "kernels/team.h"

namespace tandem {

double steady_now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void run_pinned(const std::vector<int>& cores, const std::function<void(size_t)>& f) {
  std::atomic<size_t> in_place{0};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < cores.size(); ++i)
    threads.emplace_back([&, i] {
      pin_this_thread(cores[i]);
      in_place.fetch_add(1);
      // Yields, since two of the cores may be one.
      while (in_place.load() < cores.size()) relax(true);
      f(i);
    });
  for (std::thread& thread : threads) thread.join();
}

struct DriverThread::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<std::packaged_task<double()>> job;
  bool stop = false;

  /// The next job, or nothing when the thread is to end.
  std::optional<std::packaged_task<double()>> next() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stop || job; });
    return std::exchange(job, std::nullopt);
  }
};

DriverThread::DriverThread()
    : state_(std::make_unique<State>()), thread_([state = state_.get()] {
        while (auto job = state->next()) (*job)();
      }) {}

DriverThread::~DriverThread() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_one();
  thread_.join();
}

std::future<double> DriverThread::start(std::function<double()> job) {
  std::packaged_task<double()> task(std::move(job));
  std::future<double> result = task.get_future();
  {
    const std::lock_guard lock(state_->mutex);
    state_->job = std::move(task);
  }
  state_->changed.notify_one();
  return result;
}

}  // namespace tandem
