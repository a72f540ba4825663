#include <cstddef>
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

DeviceClock::DeviceClock(int device, cudaStream_t stream)
    : stream_(stream),
      pinned_(pinned_memory(sizeof(Words))),
      memory_(device_memory(device, sizeof(Offsets))),
      on_host_(new (pinned_.get()) Words),
      on_device_(reinterpret_cast<const Offsets*>(memory_.get())),
      stamp_(reinterpret_cast<int64_t*>(device_address(pinned_.get()) + offsetof(Words, stamp))) {
  send_offsets();
  for (int i = 0; i < kFirstMeasurements; ++i) measure();
}

void DeviceClock::send_offsets() {
  TANDEM_CUDA_CHECK(cudaMemcpyAsync(memory_.get(), &on_host_->offsets, sizeof(Offsets),
                                    cudaMemcpyHostToDevice, stream_));
  TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream_));
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
  on_host_->offsets.offset = nanoseconds(before) + width / 2 - on_host_->stamp;
  width_ns_ = width;
  measured_ = after;
  send_offsets();
}

void DeviceClock::refresh() {
  if (Steady::now() - measured_ < kRefreshAfter) return;
  measure();
}

}  // namespace tandem::cuda
