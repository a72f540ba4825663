// Waits on and writes of 32-bit words by streams. The words are also read and written by other OS
// threads, hence atomically, with the order that a GPU gives them: what was done before a write is
// seen by whoever sees it.
#include "emulation/driver.h"

#include <cuda.h>

#include <atomic>
#include <cstring>

#include "emulation/machine.h"
#include "emulation/memory_table.h"
#include "emulation/stream.h"

namespace cuda_emulation {
namespace {

bool satisfied(uint32_t seen, uint32_t value, unsigned flags) {
  switch (flags) {
    case CU_STREAM_WAIT_VALUE_GEQ:
      return static_cast<int32_t>(seen - value) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return seen == value;
    case CU_STREAM_WAIT_VALUE_AND:
      return (seen & value) != 0;
    default:
      return ~(seen | value) != 0;
  }
}

/// A word that a device can reach, or null.
uint32_t* word_at(CUdeviceptr address) {
  auto* word = reinterpret_cast<uint32_t*>(address);
  return address % 4 == 0 && memory_table().find(word).has_value() ? word : nullptr;
}

CUresult as_driver_result(cudaError_t status) { return static_cast<CUresult>(status); }

CUresult wait_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  uint32_t* word = word_at(address);
  if (word == nullptr || flags > CU_STREAM_WAIT_VALUE_NOR) return CUDA_ERROR_INVALID_VALUE;
  return as_driver_result(submit(stream, cudaGraphNodeTypeBatchMemOp, [=] {
    Patience patience;
    while (!satisfied(std::atomic_ref(*word).load(std::memory_order_acquire), value, flags)) {
      if (machine().lost) return;
      patience.pause();
    }
  }));
}

CUresult write_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
  uint32_t* word = word_at(address);
  if (word == nullptr || flags != CU_STREAM_WRITE_VALUE_DEFAULT) return CUDA_ERROR_INVALID_VALUE;
  return as_driver_result(submit(stream, cudaGraphNodeTypeBatchMemOp, [=] {
    std::atomic_ref(*word).store(value, std::memory_order_release);
  }));
}

}  // namespace

void* find_driver_function(const char* name) {
  if (std::strcmp(name, "cuStreamWaitValue32") == 0) return reinterpret_cast<void*>(&wait_value);
  if (std::strcmp(name, "cuStreamWriteValue32") == 0) return reinterpret_cast<void*>(&write_value);
  return nullptr;
}

}  // namespace cuda_emulation
