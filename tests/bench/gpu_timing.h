// How `./dev gpu bench` times a CUDA unit: on the device's own clock, steps recorded and replayed
// as the executor's are.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/exchange_memory.h"

namespace tandem::bench {

double median(std::vector<double> values);

/// One CUDA unit and the memory it exchanges with the host.
class GpuTimer {
 public:
  explicit GpuTimer(int index);
  ~GpuTimer();
  GpuTimer(const GpuTimer&) = delete;
  GpuTimer& operator=(const GpuTimer&) = delete;

  Device& device() const { return *devices_.front(); }
  ExchangeMemory& exchanged() { return *exchanged_; }

  /// Median seconds of what `queue` calls of the device, replayed `runs` times; `beside` runs on
  /// another thread meanwhile.
  double step_s(const std::function<void()>& queue, int runs,
                const std::function<void()>& beside = {});
  /// Median seconds of what `queue` puts on a plain stream of the device.
  double stream_s(const std::function<void(cudaStream_t)>& queue, int runs) const;

 private:
  std::vector<std::unique_ptr<Device>> devices_;  ///< the one
  std::unique_ptr<ExchangeMemory> exchanged_;
  std::span<int64_t> stamps_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  uint64_t recordings_ = 0;
};

/// Finite values of any dtype that are no zeros: every byte pair is a small f16 and bf16.
void fill_finite(std::span<std::byte> bytes);

}  // namespace tandem::bench
