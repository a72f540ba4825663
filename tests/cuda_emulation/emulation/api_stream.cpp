// Streams, events, and work that is no copy: kernels and functions of the host.
#include <utility>

#include "emulation/block.h"
#include "emulation/launch.h"
#include "emulation/machine.h"
#include "emulation/stream.h"

using namespace cuda_emulation;

namespace {

constexpr int kLeastPriority = 0, kGreatestPriority = -5;
constexpr unsigned kMaxThreads = 1024;

cudaError_t check_shape(const cudaLaunchConfig_t& config) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  // A product of sides, each at most 1024, does not overflow.
  const bool sides = block.x <= kMaxThreads && block.y <= kMaxThreads && block.z <= 64 &&
                     grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535;
  if (!sides || block.x * block.y * block.z == 0 || block.x * block.y * block.z > kMaxThreads ||
      grid.x == 0 || grid.y == 0 || grid.z == 0)
    return cudaErrorInvalidConfiguration;
  // Dynamic shared memory and launch attributes are not emulated.
  if (config.dynamicSmemBytes != 0 || config.numAttrs != 0) return cudaErrorNotSupported;
  return cudaSuccess;
}

}  // namespace

cudaError_t cuda_emulation::launch_kernel(const cudaLaunchConfig_t& config,
                                          std::function<void()> thread) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (const cudaError_t status = check_shape(config); status != cudaSuccess) return answer(status);
  if (config.stream != nullptr && config.stream->device != current_device())
    return answer(cudaErrorInvalidResourceHandle);
  return answer(submit(config.stream, cudaGraphNodeTypeKernel,
                       [grid = config.gridDim, block = config.blockDim,
                        thread = std::move(thread)] { run_grid(grid, block, thread); }));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void* user_data) {
  if (fn == nullptr) return answer(cudaErrorInvalidValue);
  return answer(submit(stream, cudaGraphNodeTypeHost, [fn, user_data] { fn(user_data); }));
}

// --- streams ------------------------------------------------------------------------------------

cudaError_t cudaDeviceGetStreamPriorityRange(int* least_priority, int* greatest_priority) {
  if (least_priority != nullptr) *least_priority = kLeastPriority;
  if (greatest_priority != nullptr) *greatest_priority = kGreatestPriority;
  return answer(ready());
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (stream == nullptr || flags > cudaStreamNonBlocking) return answer(cudaErrorInvalidValue);
  *stream = new CUstream_st(current_device(), flags, priority);
  add_stream(**stream);
  ++machine().streams;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle);
  remove_stream(*stream);
  delete stream;
  --machine().streams;
  return answer(ready());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  CUstream_st& target = resolve(stream);
  if (const cudaError_t status = forbid_on_capturing(target); status != cudaSuccess)
    return answer(status);
  target.drain();
  return answer(ready());
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  CUstream_st& target = resolve(stream);
  if (const cudaError_t status = forbid_on_capturing(target); status != cudaSuccess)
    return answer(status);
  if (!target.idle()) return answer(cudaErrorNotReady);
  return answer(ready());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (event == nullptr) return answer(cudaErrorInvalidResourceHandle);
  if (flags != 0) return answer(cudaErrorNotSupported);
  CUstream_st& target = resolve(stream);
  if (const Captured result = capture_wait(target, *event); result.captured)
    return answer(result.status);
  const std::lock_guard guard(event->mutex);
  if (const auto moment = event->moment; moment != nullptr)
    push_in_order(
        target, [moment] { moment->progress.wait_for(1); }, true);
  return cudaSuccess;
}

// --- events -------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (event == nullptr) return answer(cudaErrorInvalidValue);
  if ((flags & cudaEventInterprocess) != 0) return answer(cudaErrorNotSupported);
  *event = new CUevent_st;
  (*event)->device = current_device();
  (*event)->flags = flags;
  ++machine().events;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return answer(cudaErrorInvalidResourceHandle);
  delete event;
  --machine().events;
  return answer(ready());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (event == nullptr) return answer(cudaErrorInvalidResourceHandle);
  CUstream_st& target = resolve(stream);
  if (target.device != event->device) return answer(cudaErrorInvalidResourceHandle);
  const Captured result = capture_record(target, *event);
  const std::lock_guard guard(event->mutex);
  if (result.captured) {
    event->moment = nullptr;
    return answer(result.status);
  }
  event->moment = std::make_shared<Moment>();
  push_in_order(
      target,
      [moment = event->moment] {
        moment->time = std::chrono::steady_clock::now();
        moment->progress.finish_one();
      },
      true);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (event == nullptr) return answer(cudaErrorInvalidResourceHandle);
  if (const cudaError_t status = forbid_captured(*event); status != cudaSuccess)
    return answer(status);
  std::unique_lock lock(event->mutex);
  const auto moment = event->moment;
  lock.unlock();
  if (moment != nullptr) moment->progress.wait_for(1);
  return answer(ready());
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (event == nullptr) return answer(cudaErrorInvalidResourceHandle);
  if (const cudaError_t status = forbid_captured(*event); status != cudaSuccess)
    return answer(status);
  if (const cudaError_t status = forbid_while_capturing(); status != cudaSuccess)
    return answer(status);
  const std::lock_guard guard(event->mutex);
  if (event->moment != nullptr && !event->moment->progress.has_done(1))
    return answer(cudaErrorNotReady);
  return answer(ready());
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (ms == nullptr || start == nullptr || end == nullptr || start == end)
    return answer(cudaErrorInvalidResourceHandle);
  const std::scoped_lock guard(start->mutex, end->mutex);
  const bool timed = ((start->flags | end->flags) & cudaEventDisableTiming) == 0;
  if (!timed || start->moment == nullptr || end->moment == nullptr || start->device != end->device)
    return answer(cudaErrorInvalidResourceHandle);
  if (!start->moment->progress.has_done(1) || !end->moment->progress.has_done(1))
    return answer(cudaErrorNotReady);
  *ms = std::chrono::duration<float, std::milli>(end->moment->time - start->moment->time).count();
  return cudaSuccess;
}
