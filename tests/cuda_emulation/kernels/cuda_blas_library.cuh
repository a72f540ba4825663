// The twin of kernels/cuda_blas_library.cuh for the emulation, found first by the order of include
// folders.
#pragma once

#include <cublasLt.h>

namespace tandem::cuda {

inline void* open_blas_symbol(const char* name) { return cuda_emulation_cublas_symbol(name); }

}  // namespace tandem::cuda
