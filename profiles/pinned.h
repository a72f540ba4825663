// Work on threads of known places: a pinned thread per core for a moment, and a lasting driver per
// unit.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace tandem {

/// Seconds on the steady clock.
double steady_now_s();

/// Calls f(i) on a new thread pinned to cores[i], for all i at once: none begins before all are in
/// place.
void run_pinned(const std::vector<int>& cores, const std::function<void(size_t)>& f);

/// One thread that does one job after another. A Device is driven by one thread for as long as it
/// lives.
class DriverThread {
 public:
  DriverThread();
  ~DriverThread();
  DriverThread(const DriverThread&) = delete;
  DriverThread& operator=(const DriverThread&) = delete;

  /// Starts a job; the future is ready when it has ended and throws what it threw.
  std::future<double> start(std::function<double()> job);

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::thread thread_;
};

}  // namespace tandem
