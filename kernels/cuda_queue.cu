#include <fmt/format.h>

#include <new>
#include <type_traits>
#include <utility>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_memory.cuh"
#include "kernels/cuda_ptx.cuh"
#include "kernels/cuda_queue.cuh"

namespace tandem::cuda {

Stream::Stream() { TANDEM_CUDA_CHECK(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking)); }

Event::Event() { TANDEM_CUDA_CHECK(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming)); }
void Event::record(cudaStream_t stream) { TANDEM_CUDA_CHECK(cudaEventRecord(handle_, stream)); }
void Event::hold(cudaStream_t stream) {
  TANDEM_CUDA_CHECK(cudaStreamWaitEvent(stream, handle_, 0));
}
void Event::synchronize() { TANDEM_CUDA_CHECK(cudaEventSynchronize(handle_)); }

namespace {

/// A function of the driver, or null where it has none of this name.
template <class Function>
Function entry_point(const char* name) {
  // From this version on the name means its second form, which all devices of the driver have.
  constexpr unsigned int kVersion = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &function, kVersion, cudaEnableDefault, &found);
  if (status == cudaSuccess && found == cudaDriverEntryPointSuccess)
    return reinterpret_cast<Function>(function);
  cudaGetLastError();
  return nullptr;
}

void check_driver(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return;
  throw Error(fmt::format("CUDA: {}: error {} of the driver", call, static_cast<int>(result)));
}

/// A flag as its value, at an address of the device.
uint32_t* word(Flag* flag) {
  static_assert(std::is_standard_layout_v<Flag> && sizeof(Flag::value) == sizeof(uint32_t));
  return reinterpret_cast<uint32_t*>(flag);
}

CUdeviceptr address(uint32_t* p) { return reinterpret_cast<CUdeviceptr>(p); }

__global__ void wait_kernel(uint32_t* flag) {
  while (load_acquire_system(flag) == Flag::kLowered) {
  }
  store_release_system(flag, Flag::kLowered);
}

__global__ void raise_kernel(uint32_t* flag) { store_release_system(flag, Flag::kRaised); }

}  // namespace

StreamMemoryOps find_stream_memory_ops() {
  return {.wait_value = entry_point<PFN_cuStreamWaitValue32_v11070>("cuStreamWaitValue32"),
          .write_value = entry_point<PFN_cuStreamWriteValue32_v11070>("cuStreamWriteValue32")};
}

Queue::Queue(bool yield) : yield_(yield), memory_ops_(find_stream_memory_ops()) {
  if (memory_ops_.available() && !memory_ops_work()) memory_ops_ = {};
}

/// A virtual machine may have the entry points and refuse the calls, or a driver to record them.
bool Queue::memory_ops_work() {
  const Bytes memory = pinned_memory(sizeof(uint32_t));
  const auto* written = new (memory.get()) uint32_t{0};
  const auto there = reinterpret_cast<CUdeviceptr>(device_address(memory.get()));
  constexpr uint64_t kTrial = 1;
  try {
    begin(kTrial);
    check_driver(memory_ops_.write_value(stream(), there, 1, CU_STREAM_WRITE_VALUE_DEFAULT), "");
    check_driver(memory_ops_.wait_value(stream(), there, 1, CU_STREAM_WAIT_VALUE_GEQ), "");
    launch();
    finish();
  } catch (const Error&) {
    abandon();
    cudaGetLastError();
  }
  forget();
  return *written == 1;
}

void Queue::wait(Flag* shared) {
  uint32_t* flag = word(shared);
  if (!memory_ops_.available())
    return cuda::launch({.grid = dim3(1), .block = dim3(1), .stream = stream()}, wait_kernel, flag);
  check_driver(
      memory_ops_.wait_value(stream(), address(flag), Flag::kRaised, CU_STREAM_WAIT_VALUE_GEQ),
      "cuStreamWaitValue32");
  check_driver(memory_ops_.write_value(stream(), address(flag), Flag::kLowered,
                                       CU_STREAM_WRITE_VALUE_DEFAULT),
               "cuStreamWriteValue32");
}

void Queue::raise(Flag* shared) {
  uint32_t* flag = word(shared);
  if (!memory_ops_.available())
    return cuda::launch({.grid = dim3(1), .block = dim3(1), .stream = stream()}, raise_kernel,
                        flag);
  // By default it is a write after all others of the stream, for all units to see.
  check_driver(memory_ops_.write_value(stream(), address(flag), Flag::kRaised,
                                       CU_STREAM_WRITE_VALUE_DEFAULT),
               "cuStreamWriteValue32");
}

bool Queue::begin(uint64_t recording) {
  abandon();
  if (recording == 0) return false;
  if (const auto found = recordings_.find(recording); found != recordings_.end()) {
    TANDEM_CUDA_CHECK(cudaGraphLaunch(found->second.get(), stream()));
    return true;
  }
  if (recordings_.size() >= kMostRecordings) recordings_.clear();
  // Relaxed: kernels that are launched for the first time are loaded meanwhile.
  TANDEM_CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed));
  recording_ = recording;
  return false;
}

void Queue::launch() {
  if (recording_ == 0) return;
  const uint64_t recording = std::exchange(recording_, 0);
  cudaGraph_t graph = nullptr;
  TANDEM_CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
  const Graph captured(graph);
  cudaGraphExec_t recorded = nullptr;
  TANDEM_CUDA_CHECK(cudaGraphInstantiate(&recorded, captured.get(), 0));
  recordings_[recording] = Recorded(recorded);
  TANDEM_CUDA_CHECK(cudaGraphLaunch(recorded, stream()));
}

void Queue::check() const {
  const cudaError_t status = cudaStreamQuery(stream());
  if (status != cudaErrorNotReady) cuda::check(status, "cudaStreamQuery during a step");
}

void Queue::finish() {
  launch();
  cudaError_t status = cudaStreamQuery(stream());
  for (; status == cudaErrorNotReady; status = cudaStreamQuery(stream())) relax(yield_);
  cuda::check(status, "cudaStreamQuery at the end of a step");
}

void Queue::abandon() noexcept {
  if (std::exchange(recording_, 0) == 0) return;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream(), &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void Queue::drain() noexcept {
  abandon();
  while (cudaStreamQuery(stream()) == cudaErrorNotReady) relax(yield_);
}

}  // namespace tandem::cuda
