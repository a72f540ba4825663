#include <new>

#include "kernels/cuda_device_clock.cuh"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/flag.h"

namespace tandem::cuda {
namespace {

/// Clocks drift apart by less than this share of the time that passes.
constexpr double kDrift = 1e-4;
/// At most 5 us of drift; a measurement takes about 20 us.
constexpr std::chrono::milliseconds kRefreshAfter{50};
/// The first loads the kernel; the shortest of the others is a launch without an interruption.
constexpr int kFirstMeasurements = 20;

int64_t nanoseconds(DeviceClock::Steady::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

}  // namespace

DeviceClock::DeviceClock(cudaStream_t stream)
    : stream_(stream),
      memory_(pinned_memory(sizeof(Words))),
      on_host_(new (memory_.get()) Words),
      on_device_(reinterpret_cast<const Words*>(device_address(memory_.get()))),
      stamp_(const_cast<int64_t*>(&on_device_->stamp)) {
  for (int i = 0; i < kFirstMeasurements; ++i) measure();
}

/// The device's clock was read between two readings of the host's.
void DeviceClock::measure() {
  const Steady::time_point before = Steady::now();
  stamp(stamp_, &on_device_->zero, stream_);
  cudaError_t status = cudaStreamQuery(stream_);
  for (; status == cudaErrorNotReady; status = cudaStreamQuery(stream_)) relax(true);
  const Steady::time_point after = Steady::now();
  check(status, "cudaStreamQuery");

  const int64_t width = (after - before) / std::chrono::nanoseconds(1);
  const double passed = std::chrono::duration<double, std::nano>(after - measured_).count();
  if (width_ns_ != INT64_MAX &&
      static_cast<double>(width) > static_cast<double>(width_ns_) + kDrift * passed)
    return;
  on_host_->offset = nanoseconds(before) + width / 2 - on_host_->stamp;
  width_ns_ = width;
  measured_ = after;
}

void DeviceClock::refresh() {
  if (Steady::now() - measured_ < kRefreshAfter) return;
  measure();
}

}  // namespace tandem::cuda
