// A CUDA unit: Device on one GPU. It translates what stages are given to the device's addresses,
// owns the scratch, and queues what the kernel files offer; open one through open_cuda_device().
#pragma once

#include <fmt/format.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/cuda_device_clock.cuh"
#include "kernels/cuda_device_copies.cuh"
#include "kernels/cuda_device_weights.cuh"
#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_memory.cuh"
#include "kernels/cuda_queue.cuh"
#include "kernels/device.h"

namespace tandem::cuda {

/// Runs f with a device current, and names the unit in what it throws.
template <class Function>
auto as_unit(int index, const Function& f) {
  try {
    TANDEM_CUDA_CHECK(cudaSetDevice(index));
    return f();
  } catch (const Error& error) {
    throw Error(fmt::format("gpu{}: {}", index, error.what()));
  }
}

class CudaDevice : public Device {
 public:
  /// The device is the current one.
  explicit CudaDevice(const CudaDeviceOptions& options);
  ~CudaDevice() override;

  bool enqueues() const override { return true; }

  std::shared_ptr<const PlacedMatrix> place(const MatrixSource& source, Range columns,
                                            Home home) override;
  std::shared_ptr<std::byte[]> allocate(int64_t bytes) override;
  void write(std::byte* to, const std::byte* from, int64_t bytes) override;
  void read(std::byte* to, const std::byte* from, int64_t bytes) override;
  std::shared_ptr<void> share(std::byte* memory, int64_t bytes) override;

  void linear(const LinearArgs& args) override;
  void gate_up(const GateUpArgs& args) override;
  void qkv(const QkvArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void merge(const MergeArgs& args) override;
  void embed(const EmbedArgs& args) override;
  void argmax(const ArgmaxArgs& args) override;
  void commit(const CommitArgs& args) override;

  void wait(Flag& flag) override;
  void raise(Flag& flag) override;
  void receive(const Block& block) override;
  bool connect(const Device& writer) override;
  void receive_from(const Device& writer, const Block& block) override;
  void stamp(int64_t* ns) override;
  void read_all(const std::byte* memory, int64_t bytes) override;

  void reserve(const DeviceLimits& limits) override;
  int64_t workspace_bytes() const override;

  bool begin_step(uint64_t recording) override;
  void launch() override;
  void check() override;
  void end_step() override;
  void forget_recordings() override;

 private:
  /// An input in the forms that a stage's matrices read.
  struct Input {
    int64_t tokens = 0;
    int64_t k = 0;
    Prepared forms;
  };

  template <class Function>
  auto on_device(const Function& f) {
    try {
      return as_unit(options_.index, f);
    } catch (...) {
      failed_ = true;
      queue_.abandon();
      throw;
    }
  }
  cudaStream_t stream() const { return queue_.stream(); }
  void require_no_recording() const;
  void require_shared(const Block& block) const;
  void copy(std::byte* to, const std::byte* from, int64_t bytes, cudaMemcpyKind kind);

  // cuda_device_peers.cu
  bool reads_memory_of(int device);

  // cuda_device.cu: addresses
  template <class T>
  T* own(T* p) const {
    return exchanged_.own(p);
  }
  KvView own(KvView view) const;
  /// Where a result is written too: null where only this unit reads it, or where it lies there
  /// anyway.
  template <class T>
  T* published(T* p, bool publish) const {
    return publish && !exchanged_.unified() ? exchanged_.shared(p) : nullptr;
  }
  DeviceValue value(const StepValue& v) const;
  int64_t max_context(const AttentionArgs& args) const;

  // cuda_device_scratch.cu
  std::byte* grow(Buffer& buffer, int64_t bytes);
  float* grow_floats(Buffer& buffer, int64_t floats);
  Prepared input_scratch(int64_t tokens, int64_t k);
  Blas* blas();

  // cuda_device_linear.cu
  Input prepare(const LinearInput& input, std::initializer_list<const PlacedMatrix*> matrices);
  template <class Function>
  void for_pieces(std::span<const CudaMatrix* const> matrices, Range columns, bool products,
                  const Function& f);
  void product(const WeightMatrix& weights, Range columns, const Input& input, float* y,
               int64_t y_stride);
  void linear_piece(const LinearLaunch& launch, const Input& input);
  void gate_up_piece(const GateUpLaunch& launch, const Input& input);
  void multiply(const PlacedMatrix* weights, Range columns, const Input& input, float* y,
                int64_t y_stride);
  /// Columns of a matrix and where their products go: y[t][c - columns.begin].
  struct Product {
    const PlacedMatrix* weights;
    Range columns;
    float* y;
  };
  void multiply_together(std::span<const Product> products, const Input& input, int64_t y_stride);

  CudaDeviceOptions options_;
  Queue queue_;
  DeviceClock clock_;
  ExchangedMemory exchanged_;
  WeightLoader loader_;
  CopyAhead copies_;
  DeviceLimits limits_;  ///< reserved
  Buffer inputs_;        ///< here and below: see CudaWorkspace
  Buffer products_;
  Buffer prefill_;
  Buffer chunk_states_;
  Buffer never_;                ///< see cuda::read_all()
  std::vector<Bytes> retired_;  ///< scratch that has grown since, which recordings may hold
  Blas* blas_ = nullptr;
  bool blas_opened_ = false;
  bool failed_ = false;  ///< the step's error was thrown
  bool stamped_ = false;
};

}  // namespace tandem::cuda
