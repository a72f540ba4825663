// Capture of streams into graphs: which stream captures what, and what is forbidden meanwhile.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "emulation/runtime_api.h"

struct CUgraphNode_st {
  cudaGraphNodeType type = cudaGraphNodeTypeKernel;
  std::vector<size_t> after;  ///< lower than its own index
  bool side = false;          ///< captured on another stream than the one the capture began on
  std::function<void()> operation;
};
struct CUgraph_st {
  std::deque<CUgraphNode_st> nodes;  ///< in the order of the calls
};

namespace cuda_emulation {

struct Capture {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  CUstream_st* origin = nullptr;
  std::vector<CUstream_st*> streams;  ///< origin included
  std::unique_ptr<CUgraph_st> graph = std::make_unique<CUgraph_st>();
  bool invalidated = false;
  bool ended = false;
};
/// A stream's part in a capture: nodes that its next one comes after.
struct StreamCapture {
  std::shared_ptr<Capture> capture;  ///< null: none
  std::vector<size_t> tails;
};
using EventCapture = StreamCapture;

/// Guards all of the above.
std::mutex& capture_mutex();

/// For calls that might wait for work of other streams, or queue some: an error, and the captures
/// are of no use any more, while this thread captures (unless relaxed), or any thread does so for
/// all (cudaStreamCaptureModeGlobal).
cudaError_t forbid_while_capturing();
/// For calls that wait for a stream, or ask how far it is.
cudaError_t forbid_on_capturing(CUstream_st& stream);
cudaError_t forbid_on_capturing_device(int device);
/// Adds a node, where the stream captures; null result: it does not.
struct Captured {
  bool captured = false;
  cudaError_t status = cudaSuccess;
};
Captured capture_operation(CUstream_st& stream, cudaGraphNodeType type,
                           std::function<void()>& operation);
Captured capture_record(CUstream_st& stream, CUevent_st& event);
Captured capture_wait(CUstream_st& stream, CUevent_st& event);
/// The stream ceases to be.
void abandon_capture(CUstream_st& stream);
/// cudaErrorCapturedEvent where the event was last recorded in a capture.
cudaError_t forbid_captured(CUevent_st& event);

}  // namespace cuda_emulation
