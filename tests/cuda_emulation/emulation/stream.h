// Streams and events: a stream is an OS thread that executes its queue in order.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "emulation/capture.h"
#include "emulation/runtime_api.h"

namespace cuda_emulation {

/// How many of the things queued somewhere are done. May outlive its stream.
class Progress {
 public:
  void finish_one();
  bool has_done(uint64_t count) const { return done_.load(std::memory_order_acquire) >= count; }
  /// Sleeps until it has.
  void wait_for(uint64_t count);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<uint64_t> done_{0};
};

/// The moment at which a stream came to a recorded event.
struct Moment {
  Progress progress;  ///< of 1
  std::chrono::steady_clock::time_point time;
};

/// For a wait of unknown length on a word in memory: gives the core away, then sleeps.
class Patience {
 public:
  void pause();

 private:
  int pauses_ = 0;
};

/// The stream that null means on the current device, or `stream` itself.
CUstream_st& resolve(cudaStream_t stream);
/// Queues an operation, or adds it to the graph that the stream captures.
cudaError_t submit(cudaStream_t stream, cudaGraphNodeType type, std::function<void()> operation);
/// Pushes to a stream, which it makes wait for the null stream, or that for it.
void push_in_order(CUstream_st& stream, std::function<void()> operation, bool always = false);
/// Streams that were made and not destroyed, so that the null stream can come after them.
void add_stream(CUstream_st& stream);
void remove_stream(CUstream_st& stream);
/// Waits for all that is queued on a device.
void drain_device(int device);

}  // namespace cuda_emulation

struct CUstream_st {
 public:
  CUstream_st(int device, unsigned flags, int priority, bool is_null = false);
  /// Waits for what is queued.
  ~CUstream_st();
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;

  const int device;
  const unsigned flags;
  const int priority;
  const bool is_null;
  /// Comes after the null stream, and it after this one.
  bool is_blocking() const { return (flags & cudaStreamNonBlocking) == 0; }
  const std::shared_ptr<cuda_emulation::Progress> progress =
      std::make_shared<cuda_emulation::Progress>();
  cuda_emulation::StreamCapture capture;

  /// `always`: also where the devices are lost, since somebody waits for it.
  void push(std::function<void()> operation, bool always = false);
  void push_wait(std::shared_ptr<cuda_emulation::Progress> other, uint64_t count);
  uint64_t queued() const { return queued_.load(); }
  bool idle() const { return progress->has_done(queued()); }
  void drain() { progress->wait_for(queued()); }

 private:
  struct Item {
    std::function<void()> operation;
    bool always = false;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<Item> queue_;
  std::atomic<uint64_t> queued_{0};
  bool closing_ = false;
  std::thread worker_;
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  std::mutex mutex;
  std::shared_ptr<cuda_emulation::Moment> moment;  ///< null: never recorded, or captured
  cuda_emulation::EventCapture capture;            ///< guarded by capture_mutex()
};
