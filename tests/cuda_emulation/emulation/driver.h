// The functions of the CUDA driver that are emulated.
#pragma once

namespace cuda_emulation {

/// cuStreamWaitValue32, cuStreamWriteValue32, or null.
void* find_driver_function(const char* name);

}  // namespace cuda_emulation
