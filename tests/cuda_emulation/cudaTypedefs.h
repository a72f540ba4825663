// Stands in for the CUDA header of this name: types of driver functions by the version that
// introduced them.
#pragma once

#include <cuda.h>

using PFN_cuStreamWaitValue32_v11070 = CUresult (*)(CUstream stream, CUdeviceptr_v2 addr,
                                                    cuuint32_t value, unsigned int flags);
using PFN_cuStreamWriteValue32_v11070 = CUresult (*)(CUstream stream, CUdeviceptr_v2 addr,
                                                     cuuint32_t value, unsigned int flags);
