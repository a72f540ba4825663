// The CUDA unit's queue: work in order on one stream, waits on flags inside it, and recordings of
// whole steps. It knows no stage.
#pragma once

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <memory>
#include <type_traits>

#include "kernels/flag.h"

namespace tandem::cuda {

/// A stream that waits for no other one by itself.
class Stream {
 public:
  Stream();
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

/// A point in a stream that another stream, or the host, waits for.
class Event {
 public:
  Event();
  ~Event() { cudaEventDestroy(handle_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream);
  /// What is queued on `stream` from now on begins after the point that was recorded last.
  void hold(cudaStream_t stream);
  void synchronize();

 private:
  cudaEvent_t handle_ = nullptr;
};

/// Waits on and writes of 32-bit words inside a stream. They belong to the driver, which is not
/// linked: its entry points are asked for at run time.
struct StreamMemoryOps {
  PFN_cuStreamWaitValue32_v11070 wait_value = nullptr;
  PFN_cuStreamWriteValue32_v11070 write_value = nullptr;
  bool available() const { return wait_value != nullptr && write_value != nullptr; }
};
StreamMemoryOps find_stream_memory_ops();

/// Of the current device. Used by one thread at a time.
class Queue {
 public:
  /// `yield`: see relax().
  explicit Queue(bool yield);
  ~Queue() { drain(); }
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  cudaStream_t stream() const { return stream_.get(); }

  /// Waits for a flag and lowers it, a cancelled one too: nobody runs that step to its end. Here
  /// and below the address is the device's. Where the driver has no stream memory operations, or
  /// they do not work, kernels do the same.
  void wait(Flag* shared);
  void raise(Flag* shared);

  /// A step begins. True where it was recorded and runs now; otherwise what follows is recorded,
  /// unless `recording` is 0.
  ///
  /// A step that is not recorded is queued while it runs, which may end in a deadlock if it is long
  /// and waits for the thread that queues it: a stream takes about 1000 calls, then queueing waits.
  bool begin(uint64_t recording);
  /// Runs the step that is being recorded; nothing otherwise.
  void launch();
  /// Error where something that was queued has failed.
  void check() const;
  /// Returns when all that was queued is done. Spins: to be woken costs 20 us.
  ///
  /// Without a limit. What is queued waits for other units, whose share of a step may take minutes,
  /// and nothing tells how far a recording has come. A device that is lost or has crashed answers
  /// with an error. One that hangs without cannot be left, either: streams, memory and registered
  /// pages are given back only when it is idle, so that an Error would end in the next call.
  void finish();
  /// Drops a step that is being recorded.
  void abandon() noexcept;
  /// The same, and returns when what was queued is done or the device has failed: flags that it
  /// waits for have to be raised or cancelled.
  void drain() noexcept;
  void forget() noexcept { recordings_.clear(); }
  bool recording() const { return recording_ != 0; }
  bool has_recordings() const { return recording() || !recordings_.empty(); }

 private:
  /// Prompts of every length are steps of their own: the recordings of old ones go.
  static constexpr size_t kMostRecordings = 64;

  struct Destroy {
    void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
    void operator()(cudaGraphExec_t recorded) const { cudaGraphExecDestroy(recorded); }
  };
  using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy>;
  using Recorded = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy>;

  bool memory_ops_work();

  bool yield_;
  Stream stream_;
  StreamMemoryOps memory_ops_;
  std::map<uint64_t, Recorded> recordings_;
  uint64_t recording_ = 0;  ///< that is being made
};

}  // namespace tandem::cuda
