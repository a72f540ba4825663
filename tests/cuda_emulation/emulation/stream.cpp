#include "emulation/stream.h"

#include <sched.h>
#include <unistd.h>

#include <array>
#include <set>
#include <utility>

#include "emulation/machine.h"

namespace cuda_emulation {
namespace {

/// Cores that the process may use: threads that create streams are pinned, streams are not.
const cpu_set_t kAllowed = [] {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  return allowed;
}();

struct Streams {
  std::mutex mutex;
  std::set<CUstream_st*> all;
  std::array<std::unique_ptr<CUstream_st>, 16> of_null;  ///< by device
};
Streams& streams() {
  static Streams& all = *new Streams;
  return all;
}

/// The null stream comes after all that blocking streams were given, and they after it.
void order_with_null(CUstream_st& stream) {
  const std::lock_guard guard(streams().mutex);
  if (stream.is_null) {
    for (CUstream_st* other : streams().all)
      if (other != &stream && other->device == stream.device && other->is_blocking() &&
          !other->idle())
        stream.push_wait(other->progress, other->queued());
  } else if (stream.is_blocking()) {
    const auto& of_null = streams().of_null[static_cast<size_t>(stream.device)];
    if (of_null != nullptr && !of_null->idle())
      stream.push_wait(of_null->progress, of_null->queued());
  }
}

}  // namespace

void Progress::finish_one() {
  const std::lock_guard guard(mutex_);
  done_.fetch_add(1, std::memory_order_release);
  changed_.notify_all();
}

void Progress::wait_for(uint64_t count) {
  if (has_done(count)) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return has_done(count); });
}

void Patience::pause() {
  if (++pauses_ < 100) {
    sched_yield();
  } else {
    usleep(pauses_ < 1000 ? 20 : 200);
  }
}

CUstream_st& resolve(cudaStream_t stream) {
  if (stream != nullptr) return *stream;
  const int device = current_device();
  const std::lock_guard guard(streams().mutex);
  auto& of_null = streams().of_null[static_cast<size_t>(device)];
  if (of_null == nullptr) {
    of_null = std::make_unique<CUstream_st>(device, cudaStreamDefault, 0, true);
    streams().all.insert(of_null.get());
  }
  return *of_null;
}

cudaError_t submit(cudaStream_t stream, cudaGraphNodeType type, std::function<void()> operation) {
  if (const cudaError_t status = count_call(); status != cudaSuccess) return status;
  CUstream_st& target = resolve(stream);
  if (const Captured result = capture_operation(target, type, operation); result.captured)
    return result.status;
  push_in_order(target, std::move(operation));
  return cudaSuccess;
}

void push_in_order(CUstream_st& stream, std::function<void()> operation, bool always) {
  order_with_null(stream);
  stream.push(std::move(operation), always);
}

void add_stream(CUstream_st& stream) {
  const std::lock_guard guard(streams().mutex);
  streams().all.insert(&stream);
}
void remove_stream(CUstream_st& stream) {
  const std::lock_guard guard(streams().mutex);
  streams().all.erase(&stream);
}

void drain_device(int device) {
  std::vector<std::pair<std::shared_ptr<Progress>, uint64_t>> queued;
  {
    const std::lock_guard guard(streams().mutex);
    for (CUstream_st* stream : streams().all)
      if (stream->device == device) queued.emplace_back(stream->progress, stream->queued());
  }
  for (const auto& [progress, count] : queued) progress->wait_for(count);
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

CUstream_st::CUstream_st(int device_, unsigned flags_, int priority_, bool is_null_)
    : device(device_), flags(flags_), priority(priority_), is_null(is_null_) {}

CUstream_st::~CUstream_st() {
  abandon_capture(*this);
  {
    const std::lock_guard guard(mutex_);
    closing_ = true;
    filled_.notify_one();
  }
  if (worker_.joinable()) worker_.join();
}

void CUstream_st::push(std::function<void()> operation, bool always) {
  const std::lock_guard guard(mutex_);
  queue_.push_back({std::move(operation), always});
  queued_.fetch_add(1);
  if (!worker_.joinable()) worker_ = std::thread([this] { work(); });
  filled_.notify_one();
}

void CUstream_st::push_wait(std::shared_ptr<Progress> other, uint64_t count) {
  push([other = std::move(other), count] { other->wait_for(count); }, true);
}

void CUstream_st::work() {
  sched_setaffinity(0, sizeof kAllowed, &kAllowed);
  for (;;) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      filled_.wait(lock, [&] { return !queue_.empty() || closing_; });
      if (queue_.empty()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    if (item.always || count_operation()) item.operation();
    item.operation = nullptr;  // whoever waits may free what it held
    progress->finish_one();
  }
}
