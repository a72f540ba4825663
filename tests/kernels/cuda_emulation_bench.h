// A stream with some device memory, for the tests of the emulated CUDA runtime.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <vector>

#include "kernels/cuda_launch.cuh"

namespace tandem {

/// A stream of a device, and n elements of its memory that the host reads when the stream is idle.
template <class T>
struct Bench {
  cudaStream_t stream = nullptr;
  T* data = nullptr;
  size_t n;

  explicit Bench(size_t n_, int device = 0) : n(n_) {
    REQUIRE(cudaSetDevice(device) == cudaSuccess);
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaMalloc(&data, n * sizeof(T)) == cudaSuccess);
  }
  ~Bench() {
    cudaStreamDestroy(stream);
    cudaFree(data);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  std::vector<T> read() {
    std::vector<T> host(n);
    REQUIRE(cudaMemcpyAsync(host.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost, stream) ==
            cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    return host;
  }
};

}  // namespace tandem
