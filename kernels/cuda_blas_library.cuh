// Where cuBLASLt comes from: the machine's own library, opened when it is first asked for, so that
// a program runs without it. The emulation in tests/cuda_emulation/ has a twin of this file.
#pragma once

#include <dlfcn.h>

namespace tandem::cuda {

/// A function of cuBLASLt by name; null where there is no such library.
inline void* open_blas_symbol(const char* name) {
  static void* const library = []() -> void* {
    for (const char* file : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"})
      if (void* opened = dlopen(file, RTLD_NOW | RTLD_LOCAL)) return opened;
    return nullptr;
  }();
  return library == nullptr ? nullptr : dlsym(library, name);
}

}  // namespace tandem::cuda
