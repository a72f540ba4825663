// The emulated CUDA runtime: streams, events, graphs, flags, and machines that fail.
#include <cuda.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "cuda_emulation_bench.h"
#include "emulation/control.h"
#include "tests/cuda_emulation/kernels/cuda_ptx.cuh"

using namespace tandem;

namespace {

using cuda::launch;

// --- streams, events, graphs --------------------------------------------------------------------

__global__ void times_three_plus(int* x, int y) { *x = *x * 3 + y; }

TEST_CASE("a stream executes in order, and another one after an event of it") {
  Bench<int> bench(1);
  cudaStream_t other = nullptr;
  cudaEvent_t event = nullptr;
  REQUIRE(cudaStreamCreateWithPriority(&other, cudaStreamNonBlocking, -1) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  const dim3 one;
  cudaMemsetAsync(bench.data, 0, sizeof(int), bench.stream);
  launch({one, one, bench.stream}, times_three_plus, bench.data, 1);  // 1
  launch({one, one, bench.stream}, times_three_plus, bench.data, 2);  // 5
  CHECK(cudaEventRecord(event, bench.stream) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(other, event, 0) == cudaSuccess);
  launch({one, one, other}, times_three_plus, bench.data, 0);  // 15
  CHECK(cudaEventRecord(event, other) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(bench.stream, event, 0) == cudaSuccess);
  launch({one, one, bench.stream}, times_three_plus, bench.data, 1);  // 46
  CHECK(bench.read()[0] == 46);
  CHECK(cudaEventQuery(event) == cudaSuccess);
  cudaEventDestroy(event);
  cudaStreamDestroy(other);
}

TEST_CASE("the null stream comes after blocking streams, and they after it") {
  Bench<int> bench(1);
  cudaStream_t blocking = nullptr;
  REQUIRE(cudaStreamCreate(&blocking) == cudaSuccess);
  const dim3 one;
  int host = 0;
  CHECK(cudaMemset(bench.data, 0, sizeof(int)) == cudaSuccess);
  const cudaHostFn_t linger = [](void*) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  };
  CHECK(cudaLaunchHostFunc(blocking, linger, nullptr) == cudaSuccess);
  launch({one, one, blocking}, times_three_plus, bench.data, 1);  // 1
  launch({one, one, nullptr}, times_three_plus, bench.data, 2);   // 5
  launch({one, one, blocking}, times_three_plus, bench.data, 3);  // 18
  CHECK(cudaMemcpy(&host, bench.data, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(host == 18);
  cudaStreamDestroy(blocking);
}

TEST_CASE("a stream runs on all cores of the process, also where its maker is pinned") {
  std::thread([] {
    cpu_set_t allowed, pinned, seen;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    CPU_ZERO(&pinned);
    for (int core = 0; CPU_COUNT(&pinned) == 0; ++core)
      if (CPU_ISSET(core, &allowed)) CPU_SET(core, &pinned);
    REQUIRE(sched_setaffinity(0, sizeof pinned, &pinned) == 0);
    Bench<int> bench(1);
    const cudaHostFn_t ask = [](void* set) {
      sched_getaffinity(0, sizeof(cpu_set_t), static_cast<cpu_set_t*>(set));
    };
    CHECK(cudaLaunchHostFunc(bench.stream, ask, &seen) == cudaSuccess);
    CHECK(cudaStreamSynchronize(bench.stream) == cudaSuccess);
    CHECK(CPU_EQUAL(&seen, &allowed));
  }).join();
}

/// A captured graph on one stream and a side stream, which copies `from` to `to` at some time
/// between the two kernels: after the first only where `fork` waits, before the second where `join`
/// does.
struct ForkedGraph {
  cudaGraphExec_t exec = nullptr;
  ForkedGraph(cudaStream_t stream, int* to, const int* from, bool early_fork) {
    cudaStream_t side = nullptr;
    cudaEvent_t event = nullptr;
    cudaGraph_t graph = nullptr;
    cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    const dim3 one;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    if (early_fork) cudaEventRecord(event, stream);
    launch({one, one, stream}, times_three_plus, to, 1);
    if (!early_fork) cudaEventRecord(event, stream);
    CHECK(cudaStreamWaitEvent(side, event, 0) == cudaSuccess);
    CHECK(cudaMemcpyAsync(to, from, sizeof(int), cudaMemcpyDeviceToDevice, side) == cudaSuccess);
    cudaEventRecord(event, side);
    CHECK(cudaStreamWaitEvent(stream, event, 0) == cudaSuccess);
    launch({one, one, stream}, times_three_plus, to, 2);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
    CHECK(nodes == 3);
    CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    cudaGraphDestroy(graph);
    cudaEventDestroy(event);
    cudaStreamDestroy(side);
  }
  ~ForkedGraph() { cudaGraphExecDestroy(exec); }
};

TEST_CASE("a captured graph replays what was captured, on one stream") {
  Bench<int> bench(2);
  ForkedGraph graph(bench.stream, bench.data, bench.data + 1, false);
  cudaMemsetAsync(bench.data, 0, 2 * sizeof(int), bench.stream);
  for (int replay = 0; replay < 4; ++replay) {
    CHECK(cudaGraphLaunch(graph.exec, bench.stream) == cudaSuccess);
    CHECK(bench.read()[0] == 2);  // the copied 0, * 3 + 2
  }
}

TEST_CASE("an edge that a graph lacks shows in some of three replays") {
  Bench<int> bench(2);
  ForkedGraph graph(bench.stream, bench.data, bench.data + 1, true);
  cudaMemsetAsync(bench.data, 0, 2 * sizeof(int), bench.stream);
  int wrong = 0;
  for (int replay = 0; replay < 3; ++replay) {
    cudaGraphLaunch(graph.exec, bench.stream);
    wrong += bench.read()[0] != 2;
  }
  CHECK(wrong == 1);  // the one where the copy came first
}

TEST_CASE("capturing refuses what would wait, and a fork that is not joined") {
  Bench<int> bench(1);
  cudaGraph_t graph = nullptr;
  const dim3 one;
  int host = 0;
  void* memory = nullptr;
  const auto begin = [&](cudaStreamCaptureMode mode) {
    CHECK(cudaStreamBeginCapture(bench.stream, mode) == cudaSuccess);
  };
  const auto end = [&] { return cudaStreamEndCapture(bench.stream, &graph); };

  begin(cudaStreamCaptureModeGlobal);
  CHECK(cudaStreamSynchronize(bench.stream) == cudaErrorStreamCaptureUnsupported);
  CHECK(end() == cudaErrorStreamCaptureInvalidated);
  CHECK(graph == nullptr);

  begin(cudaStreamCaptureModeGlobal);
  CHECK(cudaMemcpy(&host, bench.data, sizeof host, cudaMemcpyDeviceToHost) ==
        cudaErrorStreamCaptureUnsupported);
  CHECK(end() == cudaErrorStreamCaptureInvalidated);

  begin(cudaStreamCaptureModeThreadLocal);
  CHECK(cudaMalloc(&memory, 16) == cudaErrorStreamCaptureUnsupported);
  CHECK(end() == cudaErrorStreamCaptureInvalidated);

  begin(cudaStreamCaptureModeThreadLocal);
  std::thread([&] {
    CHECK(cudaMalloc(&memory, 16) == cudaSuccess);
    CHECK(cudaFree(memory) == cudaSuccess);
    CHECK(end() == cudaErrorStreamCaptureWrongThread);
  }).join();
  CHECK(end() == cudaSuccess);
  cudaGraphDestroy(graph);

  begin(cudaStreamCaptureModeRelaxed);
  CHECK(cudaMalloc(&memory, 16) == cudaSuccess);
  CHECK(end() == cudaSuccess);
  cudaGraphDestroy(graph);
  cudaFree(memory);

  cudaStream_t side = nullptr;
  cudaEvent_t event = nullptr;
  cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  begin(cudaStreamCaptureModeThreadLocal);
  cudaEventRecord(event, bench.stream);
  cudaStreamWaitEvent(side, event, 0);
  launch({one, one, side}, times_three_plus, bench.data, 0);
  CHECK(end() == cudaErrorStreamCaptureUnjoined);
  CHECK(cudaEventQuery(event) == cudaErrorCapturedEvent);
  CHECK(cudaEventRecord(event, side) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);

  begin(cudaStreamCaptureModeThreadLocal);
  CHECK(cudaStreamWaitEvent(bench.stream, event, 0) == cudaErrorStreamCaptureIsolation);
  CHECK(end() == cudaErrorStreamCaptureInvalidated);
  cudaEventDestroy(event);
  cudaStreamDestroy(side);
}

// --- flags --------------------------------------------------------------------------------------

using StreamOperation = CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned int);

StreamOperation stream_operation(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  CHECK(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found) ==
        cudaSuccess);
  CHECK((function != nullptr) == (found == cudaDriverEntryPointSuccess));
  return reinterpret_cast<StreamOperation>(function);
}

TEST_CASE("a stream and a host thread hand data to each other by flags in mapped memory") {
  struct Shared {
    std::atomic<uint32_t> to_device{0}, to_host{0};
    int data = 0;
  };
  Bench<int> bench(1);
  void* memory = nullptr;
  REQUIRE(cudaHostAlloc(&memory, sizeof(Shared), cudaHostAllocMapped) == cudaSuccess);
  auto* shared = new (memory) Shared;
  const auto wait = stream_operation("cuStreamWaitValue32");
  const auto write = stream_operation("cuStreamWriteValue32");
  REQUIRE((wait != nullptr));
  REQUIRE((write != nullptr));
  const auto address = [](void* p) { return reinterpret_cast<CUdeviceptr>(p); };
  CHECK(wait(bench.stream, address(&shared->to_device) + 1, 1, CU_STREAM_WAIT_VALUE_GEQ) ==
        CUDA_ERROR_INVALID_VALUE);

  const dim3 one;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  REQUIRE(cudaStreamBeginCapture(bench.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(wait(bench.stream, address(&shared->to_device), 1, CU_STREAM_WAIT_VALUE_GEQ) ==
        CUDA_SUCCESS);
  CHECK(write(bench.stream, address(&shared->to_device), 0, 0) == CUDA_SUCCESS);
  launch({one, one, bench.stream}, times_three_plus, &shared->data, 1);
  CHECK(write(bench.stream, address(&shared->to_host), 1, 0) == CUDA_SUCCESS);
  REQUIRE(cudaStreamEndCapture(bench.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);

  for (int round = 0; round < 20; ++round) {
    CHECK(cudaGraphLaunch(exec, bench.stream) == cudaSuccess);
    if (round % 5 == 0) CHECK(cudaStreamQuery(bench.stream) == cudaErrorNotReady);
    shared->data = round;
    shared->to_device.store(1, std::memory_order_release);
    while (shared->to_host.load(std::memory_order_acquire) == 0) std::this_thread::yield();
    shared->to_host.store(0, std::memory_order_relaxed);
    CHECK(shared->data == 3 * round + 1);
    CHECK(cudaStreamSynchronize(bench.stream) == cudaSuccess);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaFreeHost(memory);
}

__global__ void answer_flag(uint32_t* question, uint32_t* answer, int64_t* ns) {
  const uint64_t start = cuda::global_timer_ns();
  while (cuda::load_acquire_system(question) == 0) __nanosleep(100);
  *ns = static_cast<int64_t>(cuda::global_timer_ns() - start);
  cuda::store_release_system(answer, 1);
}

TEST_CASE("a kernel waits for a flag that the host raises") {
  uint32_t* flags = nullptr;
  Bench<int64_t> bench(1);
  REQUIRE(cudaHostAlloc(&flags, 2 * sizeof(uint32_t), cudaHostAllocMapped) == cudaSuccess);
  flags[0] = flags[1] = 0;
  const dim3 one;
  launch({one, one, bench.stream}, answer_flag, flags, flags + 1, bench.data);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::atomic_ref(flags[0]).store(1);
  while (std::atomic_ref(flags[1]).load() == 0) std::this_thread::yield();
  CHECK(bench.read()[0] >= 0);
  cudaFreeHost(flags);
}

// --- machines that fail -------------------------------------------------------------------------

TEST_CASE("a lost device fails the call and all that follow, and strands no waiting stream") {
  for (const bool while_running : {false, true}) {
    CAPTURE(while_running);
    Bench<int> bench(1);
    uint32_t* flag = nullptr;
    REQUIRE(cudaMallocHost(&flag, sizeof *flag) == cudaSuccess);
    *flag = 0;
    const auto wait = stream_operation("cuStreamWaitValue32");
    const dim3 one;
    const auto call = [&] {
      cudaLaunchConfig_t config{};
      config.stream = bench.stream;
      return cudaLaunchKernelEx(&config, times_three_plus, bench.data, 1);
    };
    CHECK(call() == cudaSuccess);
    if (while_running) {
      cuda_emulation::fail_while_running_after(1);
      CHECK(call() == cudaSuccess);
      CHECK(call() == cudaSuccess);  // or so it seems
      CHECK(cudaStreamSynchronize(bench.stream) == cudaErrorLaunchFailure);
    } else {
      CHECK(wait(bench.stream, reinterpret_cast<CUdeviceptr>(flag), 1, 0) == CUDA_SUCCESS);
      cuda_emulation::fail_after(1);
      CHECK(call() == cudaSuccess);
      CHECK(call() == cudaErrorLaunchFailure);
    }
    CHECK(call() == cudaErrorLaunchFailure);
    CHECK(cudaStreamSynchronize(bench.stream) == cudaErrorLaunchFailure);
    CHECK(std::string(cudaGetErrorString(cudaErrorLaunchFailure)) == "unspecified launch failure");
    cudaFreeHost(flag);
    cudaStreamDestroy(bench.stream);
    cuda_emulation::reset();
    REQUIRE(cudaStreamCreate(&bench.stream) == cudaSuccess);
    CHECK(call() == cudaSuccess);
  }
}

}  // namespace
