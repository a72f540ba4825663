// Device memory for tests of the CUDA unit's kernels.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/cuda_kernels.cuh"
#include "test_data.h"

namespace tandem {

/// What outputs hold before a kernel runs.
inline constexpr float kUntouched = 7;

/// Values in device memory.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : size_(values.size()) {
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, std::max<size_t>(bytes(), 1)) == cudaSuccess);
    memory_.reset(static_cast<T*>(memory));
    REQUIRE(cudaMemcpy(memory, values.data(), bytes(), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  /// Uninitialised.
  explicit DeviceArray(int64_t size) : size_(static_cast<size_t>(size)) {
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, std::max<size_t>(bytes(), 1)) == cudaSuccess);
    memory_.reset(static_cast<T*>(memory));
  }
  T* get() const { return memory_.get(); }
  /// Everything that was queued is done before.
  std::vector<T> read() const {
    std::vector<T> values(size_);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    REQUIRE(cudaMemcpy(values.data(), get(), bytes(), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  struct Free {
    void operator()(T* memory) const { cudaFree(memory); }
  };
  size_t bytes() const { return size_ * sizeof(T); }
  size_t size_;
  std::unique_ptr<T, Free> memory_;
};

/// Columns of a matrix, packed and on the device.
struct DeviceMatrix {
  DeviceMatrix(const TestMatrix& source, Range columns)
      : bytes(packed(source, columns)),
        matrix(cuda::matrix_at(bytes.get(), source.dtype, columns, source.exact.cols())) {}

  DeviceArray<std::byte> bytes;
  cuda::WeightMatrix matrix;

 private:
  static std::vector<std::byte> packed(const TestMatrix& source, Range columns) {
    std::vector<std::byte> out(
        static_cast<size_t>(cuda::matrix_bytes(source.dtype, columns.size(), source.exact.cols())));
    cuda::pack_columns(source.source(), columns, out.data());
    return out;
  }
};

/// Input rows as a dtype's linears read them.
class DeviceInput {
 public:
  DeviceInput(DType weights, const std::vector<float>& x, int64_t tokens,
              const std::vector<float>& norm = {}, float eps = 0)
      : tokens_(tokens),
        k_(static_cast<int64_t>(x.size()) / tokens),
        quants_(cuda::wants_quants(weights)),
        x_(x),
        norm_(norm),
        floats_(quants_ ? 0 : tokens * k_),
        bytes_(quants_ ? tokens * k_ : 0),
        scales_(quants_ ? tokens * k_ / 32 : 0) {
    cuda::prepare({.x = x_.get(),
                   .tokens = tokens,
                   .k = k_,
                   .norm_weight = norm.empty() ? nullptr : norm_.get(),
                   .norm_eps = eps,
                   .quants = quants_,
                   .out = prepared()},
                  nullptr);
  }
  cuda::Prepared prepared() const {
    return {
        .x = quants_ ? nullptr : floats_.get(), .quants = bytes_.get(), .scales = scales_.get()};
  }
  /// What the rows count for.
  reference::Matrix values() const {
    if (!quants_) return reference::from_floats(floats_.read().data(), tokens_, k_);
    const std::vector<int8_t> bytes = bytes_.read();
    const std::vector<float> scales = scales_.read();
    reference::Matrix all(tokens_, k_);
    for (int64_t i = 0; i < tokens_ * k_; ++i)
      all(i / k_, i % k_) =
          double{scales[static_cast<size_t>(i / 32)]} * bytes[static_cast<size_t>(i)];
    return all;
  }

 private:
  int64_t tokens_, k_;
  bool quants_;
  DeviceArray<float> x_, norm_, floats_;
  DeviceArray<int8_t> bytes_;
  DeviceArray<float> scales_;
};

/// Rows [first, first + tokens) of [all x k] values.
inline std::vector<float> rows_of(const std::vector<float>& x, int64_t k, int64_t first,
                                  int64_t tokens) {
  return {x.begin() + first * k, x.begin() + (first + tokens) * k};
}

/// Elements of `part`, whose rows are those of `whole` from `first` on, that are not of the same
/// bits inside `columns`, or are not `untouched` outside.
inline int64_t differing_in(const std::vector<float>& part, const std::vector<float>& whole,
                            int64_t stride, int64_t first, Range columns, float untouched) {
  int64_t count = 0;
  for (size_t i = 0; i < part.size(); ++i) {
    const bool inside = columns.contains(static_cast<int64_t>(i) % stride);
    const float expected = inside ? whole[i + static_cast<size_t>(first * stride)] : untouched;
    count += float_bits(part[i]) != float_bits(expected);
  }
  return count;
}

}  // namespace tandem
