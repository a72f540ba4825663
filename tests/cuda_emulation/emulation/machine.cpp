#include "emulation/machine.h"

#include <utility>

#include "emulation/control.h"
#include "emulation/memory_table.h"

namespace cuda_emulation {
namespace {

thread_local int device_of_this_thread = 0;
thread_local cudaError_t last_error = cudaSuccess;

/// Takes one from a count; true where none was left.
bool used_up(std::atomic<int>& left) {
  int count = left.load();
  while (count > 0 && !left.compare_exchange_weak(count, count - 1)) {
  }
  return count == 0;
}

}  // namespace

Machine& machine() {
  static Machine& all = *new Machine;
  return all;
}

cudaError_t ready() {
  if (machine().driver_version < CUDART_VERSION) return cudaErrorInsufficientDriver;
  if (machine().devices == 0) return cudaErrorNoDevice;
  return machine().lost ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t count_call() {
  if (const cudaError_t status = ready(); status != cudaSuccess) return status;
  if (!used_up(machine().calls_left)) return cudaSuccess;
  machine().lost = true;
  return cudaErrorLaunchFailure;
}

bool count_operation() {
  if (machine().lost) return false;
  if (!used_up(machine().operations_left)) return true;
  machine().lost = true;
  return false;
}

cudaError_t answer(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

int current_device() { return device_of_this_thread; }

cudaError_t check_device(int device) {
  return device >= 0 && device < machine().devices ? cudaSuccess : cudaErrorInvalidDevice;
}

// --- control.h ----------------------------------------------------------------------------------

void set_devices(int count) { machine().devices = count; }
void set_driver_version(int version) { machine().driver_version = version; }
void set_memory_bytes(int64_t bytes) { machine().memory_bytes = bytes; }
void set_integrated(bool integrated) { machine().integrated = integrated; }
void set_stream_memory_ops(bool known) { machine().stream_memory_ops = known; }
void set_blas(bool found) { machine().blas = found; }
void set_peer_access(bool possible) {
  machine().peer_access = possible;
  for (std::atomic<uint64_t>& peers : machine().peers) peers = 0;
}

void fail_after(int calls) {
  machine().calls_left = calls;
  if (calls < 0) machine().lost = false;
}
void fail_while_running_after(int operations) {
  machine().operations_left = operations;
  if (operations < 0) machine().lost = false;
}

void reset() {
  set_devices(kDevices);
  set_driver_version(CUDART_VERSION);
  set_memory_bytes(kMemoryBytes);
  set_integrated(false);
  set_stream_memory_ops(true);
  set_blas(true);
  set_peer_access(true);
  fail_after(-1);
  fail_while_running_after(-1);
}

Live live() {
  return {.device_allocations = memory_table().count(MemoryKind::kDevice),
          .pinned_allocations = memory_table().count(MemoryKind::kPinned) +
                                memory_table().count(MemoryKind::kRegistered),
          .streams = machine().streams,
          .events = machine().events,
          .graphs = machine().graphs};
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t status = ready(); status != cudaSuccess) return answer(status);
  if (const cudaError_t status = check_device(device); status != cudaSuccess) return answer(status);
  device_of_this_thread = device;
  return cudaSuccess;
}
