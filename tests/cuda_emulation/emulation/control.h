// What a test may change about the emulated machine. Not thread-safe against work in flight.
#pragma once

#include <cstdint>

namespace cuda_emulation {

/// Devices that the machine has; 0 makes every call answer cudaErrorNoDevice.
void set_devices(int count);
/// Version of the driver, as cudaDriverGetVersion() gives it; below 13000 it is too old.
void set_driver_version(int version);
/// Memory of each device.
void set_memory_bytes(int64_t bytes);
/// Whether the devices share the host's memory (cudaDevAttrIntegrated).
void set_integrated(bool integrated);
/// Whether the driver knows cuStreamWaitValue32 and cuStreamWriteValue32.
void set_stream_memory_ops(bool known);
/// Whether devices can be given access to each other's memory.
void set_peer_access(bool possible);
/// Whether cuBLASLt can be opened.
void set_blas(bool found);

/// After `calls` more calls that queue work the devices are lost: that call and everything after it
/// fail with cudaErrorLaunchFailure. -1: never, and a lost device is there again.
void fail_after(int calls);
/// The same after `operations` more kernels, copies and the like that a stream has executed: the
/// error shows in a later call, as that of a kernel which crashes.
void fail_while_running_after(int operations);

/// All of the above as it was at program start.
void reset();

/// Things that were made and not destroyed yet.
struct Live {
  int device_allocations = 0;
  int pinned_allocations = 0;  ///< registered host memory included
  int streams = 0;             ///< but those that the runtime makes itself
  int events = 0;
  int graphs = 0;  ///< executable ones included
};
Live live();

}  // namespace cuda_emulation
