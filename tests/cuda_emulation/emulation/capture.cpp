#include "emulation/capture.h"

#include <algorithm>
#include <utility>

#include "emulation/machine.h"
#include "emulation/stream.h"

namespace cuda_emulation {
namespace {

/// Not ended yet.
std::vector<std::shared_ptr<Capture>>& active() {
  static auto& all = *new std::vector<std::shared_ptr<Capture>>;
  return all;
}

void end(Capture& capture) {
  for (CUstream_st* stream : capture.streams) stream->capture = {};
  capture.ended = true;
  std::erase_if(active(), [&](const auto& other) { return other.get() == &capture; });
}

/// A stream that comes after the null stream may not be captured while the null stream is used.
Captured forbid_null(const CUstream_st& stream) {
  if (!stream.is_null) return {};
  for (const auto& capture : active())
    for (const CUstream_st* other : capture->streams)
      if (other->device == stream.device && other->is_blocking()) {
        capture->invalidated = true;
        return {.captured = true, .status = cudaErrorStreamCaptureImplicit};
      }
  return {};
}

bool all_joined(const Capture& capture) {
  const auto& nodes = capture.graph->nodes;
  std::vector<bool> before_end(nodes.size());
  for (const size_t tail : capture.origin->capture.tails) before_end[tail] = true;
  for (size_t i = nodes.size(); i-- > 0;) {
    if (!before_end[i]) return false;
    for (const size_t earlier : nodes[i].after) before_end[earlier] = true;
  }
  return true;
}

void join(std::vector<size_t>& tails, const std::vector<size_t>& more) {
  for (const size_t tail : more)
    if (std::find(tails.begin(), tails.end(), tail) == tails.end()) tails.push_back(tail);
}

}  // namespace

std::mutex& capture_mutex() {
  static std::mutex mutex;
  return mutex;
}

cudaError_t forbid_while_capturing() {
  const std::lock_guard guard(capture_mutex());
  const auto self = std::this_thread::get_id();
  for (const auto& capture : active()) {
    if (capture->mode == cudaStreamCaptureModeGlobal ||
        (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == self)) {
      capture->invalidated = true;
      return cudaErrorStreamCaptureUnsupported;
    }
  }
  return cudaSuccess;
}

cudaError_t forbid_on_capturing(CUstream_st& stream) {
  const std::lock_guard guard(capture_mutex());
  if (stream.capture.capture == nullptr) return forbid_null(stream).status;
  stream.capture.capture->invalidated = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t forbid_on_capturing_device(int device) {
  const std::lock_guard guard(capture_mutex());
  for (const auto& capture : active())
    for (const CUstream_st* stream : capture->streams)
      if (stream->device == device) {
        capture->invalidated = true;
        return cudaErrorStreamCaptureUnsupported;
      }
  return cudaSuccess;
}

Captured capture_operation(CUstream_st& stream, cudaGraphNodeType type,
                           std::function<void()>& operation) {
  const std::lock_guard guard(capture_mutex());
  auto& [capture, tails] = stream.capture;
  if (capture == nullptr) return forbid_null(stream);
  if (capture->invalidated) return {true, cudaErrorStreamCaptureInvalidated};
  capture->graph->nodes.push_back({.type = type,
                                   .after = tails,
                                   .side = &stream != capture->origin,
                                   .operation = std::move(operation)});
  tails = {capture->graph->nodes.size() - 1};
  return {true, cudaSuccess};
}

Captured capture_record(CUstream_st& stream, CUevent_st& event) {
  const std::lock_guard guard(capture_mutex());
  event.capture = stream.capture;
  if (stream.capture.capture == nullptr) return forbid_null(stream);
  if (stream.capture.capture->invalidated) return {true, cudaErrorStreamCaptureInvalidated};
  return {true, cudaSuccess};
}

Captured capture_wait(CUstream_st& stream, CUevent_st& event) {
  const std::lock_guard guard(capture_mutex());
  const auto& from = event.capture.capture;
  auto& [capture, tails] = stream.capture;
  if (from == nullptr) {
    if (capture == nullptr) return forbid_null(stream);
    capture->invalidated = true;
    return {true, cudaErrorStreamCaptureIsolation};
  }
  if (from->ended) return {true, cudaErrorCapturedEvent};
  if (from->invalidated) return {true, cudaErrorStreamCaptureInvalidated};
  if (stream.is_null) return {true, cudaErrorStreamCaptureImplicit};
  if (capture == nullptr) {
    capture = from;
    from->streams.push_back(&stream);
  } else if (capture != from) {
    capture->invalidated = from->invalidated = true;
    return {true, cudaErrorStreamCaptureMerge};
  }
  join(tails, event.capture.tails);
  return {true, cudaSuccess};
}

void abandon_capture(CUstream_st& stream) {
  const std::lock_guard guard(capture_mutex());
  const auto capture = stream.capture.capture;
  if (capture == nullptr) return;
  capture->invalidated = true;
  std::erase(capture->streams, &stream);
  if (capture->origin == &stream) end(*capture);
}

cudaError_t forbid_captured(CUevent_st& event) {
  const std::lock_guard guard(capture_mutex());
  const auto& capture = event.capture.capture;
  if (capture == nullptr) return cudaSuccess;
  if (!capture->ended) capture->invalidated = true;
  return cudaErrorCapturedEvent;
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (stream == nullptr) return answer(cudaErrorStreamCaptureUnsupported);
  const std::lock_guard guard(capture_mutex());
  if (stream->capture.capture != nullptr) return answer(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  capture->streams = {stream};
  stream->capture = {capture, {}};
  active().push_back(std::move(capture));
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (graph == nullptr || stream == nullptr) return answer(cudaErrorInvalidValue);
  *graph = nullptr;
  const std::lock_guard guard(capture_mutex());
  const auto capture = stream->capture.capture;
  if (capture == nullptr) return answer(cudaErrorIllegalState);
  if (capture->origin != stream) return answer(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id())
    return answer(cudaErrorStreamCaptureWrongThread);
  const bool joined = all_joined(*capture);
  end(*capture);
  if (capture->invalidated) return answer(cudaErrorStreamCaptureInvalidated);
  if (!joined) return answer(cudaErrorStreamCaptureUnjoined);
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  ++machine().graphs;
  *graph = capture->graph.release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (status == nullptr) return answer(cudaErrorInvalidValue);
  const std::lock_guard guard(capture_mutex());
  const auto capture = stream == nullptr ? nullptr : stream->capture.capture;
  *status = capture == nullptr     ? cudaStreamCaptureStatusNone
            : capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
