#include "tests/bench/gpu_timing.h"

#include <algorithm>
#include <thread>

#include "kernels/cuda_launch.cuh"

namespace tandem::bench {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

GpuTimer::GpuTimer(int index) {
  devices_.push_back(open_cuda_device({.index = index, .yield = true}));
  exchanged_ = std::make_unique<ExchangeMemory>(devices_);
  stamps_ = exchanged_->take<int64_t>(2);
  TANDEM_CUDA_CHECK(cudaSetDevice(index));
  TANDEM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  TANDEM_CUDA_CHECK(cudaEventCreate(&begin_));
  TANDEM_CUDA_CHECK(cudaEventCreate(&end_));
}

GpuTimer::~GpuTimer() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
  cudaStreamDestroy(stream_);
}

double GpuTimer::step_s(const std::function<void()>& queue, int runs,
                        const std::function<void()>& beside) {
  const uint64_t recording = ++recordings_;
  std::vector<double> seconds;
  for (int run = -1; run < runs; ++run) {  // the first records, and loads kernels
    std::thread other;
    if (beside) other = std::thread(beside);
    if (!device().begin_step(recording)) {
      device().stamp(&stamps_[0]);
      queue();
      device().stamp(&stamps_[1]);
    }
    device().launch();
    device().end_step();
    if (other.joinable()) other.join();
    if (run >= 0) seconds.push_back(1e-9 * static_cast<double>(stamps_[1] - stamps_[0]));
  }
  device().forget_recordings();
  return median(seconds);
}

double GpuTimer::stream_s(const std::function<void(cudaStream_t)>& queue, int runs) const {
  std::vector<double> seconds;
  for (int run = -1; run < runs; ++run) {
    TANDEM_CUDA_CHECK(cudaEventRecord(begin_, stream_));
    queue(stream_);
    TANDEM_CUDA_CHECK(cudaEventRecord(end_, stream_));
    TANDEM_CUDA_CHECK(cudaStreamSynchronize(stream_));
    float ms = 0;
    TANDEM_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
    if (run >= 0) seconds.push_back(1e-3 * static_cast<double>(ms));
  }
  return median(seconds);
}

void fill_finite(std::span<std::byte> bytes) {
  uint32_t state = 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24 & 0x3b);
  }
}

}  // namespace tandem::bench
