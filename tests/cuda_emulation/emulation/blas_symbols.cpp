// What a program that opens cuBLASLt at run time finds by name.
#include <cublasLt.h>

#include <string_view>

#include "emulation/machine.h"

using namespace cuda_emulation;

size_t cublasLtGetVersion() { return 130000; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
      return "a cuBLAS status";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

void* cuda_emulation_cublas_symbol(const char* name) {
  if (!machine().blas) return nullptr;
  struct Symbol {
    std::string_view name;
    void* function;
  };
  static const Symbol kSymbols[] = {
      {"cublasLtCreate", reinterpret_cast<void*>(&cublasLtCreate)},
      {"cublasLtDestroy", reinterpret_cast<void*>(&cublasLtDestroy)},
      {"cublasLtGetVersion", reinterpret_cast<void*>(&cublasLtGetVersion)},
      {"cublasLtGetStatusName", reinterpret_cast<void*>(&cublasLtGetStatusName)},
      {"cublasLtGetStatusString", reinterpret_cast<void*>(&cublasLtGetStatusString)},
      {"cublasLtMatmulDescCreate", reinterpret_cast<void*>(&cublasLtMatmulDescCreate)},
      {"cublasLtMatmulDescDestroy", reinterpret_cast<void*>(&cublasLtMatmulDescDestroy)},
      {"cublasLtMatmulDescSetAttribute", reinterpret_cast<void*>(&cublasLtMatmulDescSetAttribute)},
      {"cublasLtMatrixLayoutCreate", reinterpret_cast<void*>(&cublasLtMatrixLayoutCreate)},
      {"cublasLtMatrixLayoutDestroy", reinterpret_cast<void*>(&cublasLtMatrixLayoutDestroy)},
      {"cublasLtMatrixLayoutSetAttribute",
       reinterpret_cast<void*>(&cublasLtMatrixLayoutSetAttribute)},
      {"cublasLtMatmulPreferenceCreate", reinterpret_cast<void*>(&cublasLtMatmulPreferenceCreate)},
      {"cublasLtMatmulPreferenceDestroy",
       reinterpret_cast<void*>(&cublasLtMatmulPreferenceDestroy)},
      {"cublasLtMatmulPreferenceSetAttribute",
       reinterpret_cast<void*>(&cublasLtMatmulPreferenceSetAttribute)},
      {"cublasLtMatmulAlgoGetHeuristic", reinterpret_cast<void*>(&cublasLtMatmulAlgoGetHeuristic)},
      {"cublasLtMatmul", reinterpret_cast<void*>(&cublasLtMatmul)},
  };
  for (const Symbol& symbol : kSymbols)
    if (symbol.name == name) return symbol.function;
  return nullptr;
}
