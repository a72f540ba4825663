// The emulated CUDA runtime: memory that CUDA knows, copies of it, and products of matrices.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdlib>

#include "cuda_emulation_bench.h"
#include "emulation/control.h"

using namespace tandem;

namespace {

// --- memory -------------------------------------------------------------------------------------

TEST_CASE("copies are checked against what CUDA knows of memory") {
  Bench<float> bench(10);
  std::vector<float> host(20, 1);
  const auto copy = [&](void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    const cudaError_t status = cudaMemcpyAsync(to, from, n * sizeof(float), kind, bench.stream);
    cudaStreamSynchronize(bench.stream);
    return status;
  };
  CHECK(copy(bench.data, host.data(), 10, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(copy(bench.data, host.data(), 11, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(bench.data, host.data(), 10, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(copy(host.data(), bench.data, 10, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  // Rows of 2 from a pitch of 4 to a pitch of 3.
  for (size_t i = 0; i < 20; ++i) host[i] = static_cast<float>(i);
  CHECK(cudaMemcpy2DAsync(bench.data, 12, host.data(), 16, 8, 3, cudaMemcpyHostToDevice,
                          bench.stream) == cudaSuccess);
  const std::vector<float> out = bench.read();
  CHECK(std::vector<float>(out.begin(), out.begin() + 8) ==
        std::vector<float>{0, 1, 1, 4, 5, 1, 8, 9});
}

TEST_CASE("host memory is registered page by page, and mapped where that was asked for") {
  void* pages = nullptr;
  REQUIRE(posix_memalign(&pages, 4096, 8192) == 0);
  auto* bytes = static_cast<std::byte*>(pages);
  void* device = nullptr;
  CHECK(cudaHostGetDevicePointer(&device, bytes, 0) == cudaErrorInvalidValue);
  CHECK(cudaHostRegister(bytes, 100, cudaHostRegisterMapped) == cudaSuccess);
  CHECK(cudaHostRegister(bytes + 200, 100, cudaHostRegisterMapped) ==
        cudaErrorHostMemoryAlreadyRegistered);
  CHECK(cudaHostRegister(bytes + 4096, 100, cudaHostRegisterDefault) == cudaSuccess);
  CHECK(cudaHostGetDevicePointer(&device, bytes + 50, 0) == cudaSuccess);
  CHECK(cudaHostGetDevicePointer(&device, bytes + 4096, 0) == cudaErrorInvalidValue);
  CHECK(cudaHostUnregister(bytes) == cudaSuccess);
  CHECK(cudaHostUnregister(bytes) == cudaErrorHostMemoryNotRegistered);
  CHECK(cudaHostUnregister(bytes + 4096) == cudaSuccess);
  free(pages);
}

// --- the machine
// ------------------------------------------------------------------------------------

TEST_CASE("a machine without a device, with an old driver, or without memory left") {
  int count = 7;
  cuda_emulation::set_devices(0);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  CHECK(cudaSetDevice(0) == cudaErrorNoDevice);
  CHECK(cudaGetLastError() == cudaErrorNoDevice);
  CHECK(cudaGetLastError() == cudaSuccess);
  cuda_emulation::reset();
  cuda_emulation::set_driver_version(12040);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  cuda_emulation::reset();
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 2);
  cuda_emulation::set_memory_bytes(1000);
  void *first = nullptr, *second = nullptr;
  CHECK(cudaMalloc(&first, 600) == cudaSuccess);
  CHECK(cudaMalloc(&second, 600) == cudaErrorMemoryAllocation);
  size_t left = 0, all = 0;
  CHECK(cudaMemGetInfo(&left, &all) == cudaSuccess);
  CHECK(left == 400);
  cudaFree(first);
  void* function = &count;
  cuda_emulation::set_stream_memory_ops(false);
  CHECK(cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function, 12000,
                                         cudaEnableDefault) == cudaSuccess);
  CHECK(function == nullptr);
  cuda_emulation::reset();
}

TEST_CASE("what is made and not destroyed is counted") {
  const cuda_emulation::Live before = cuda_emulation::live();
  {
    Bench<int> bench(1);
    CHECK(cuda_emulation::live().device_allocations == before.device_allocations + 1);
    CHECK(cuda_emulation::live().streams == before.streams + 1);
  }
  CHECK(cuda_emulation::live().device_allocations == before.device_allocations);
  CHECK(cuda_emulation::live().streams == before.streams);
}

// --- products -----------------------------------------------------------------------------------

TEST_CASE("cuBLASLt multiplies column-major matrices") {
  // D = A^T B: A is [k = 3 x m = 2] with stride 4, B [3 x n = 2] with stride 3, in bfloat16.
  Bench<__nv_bfloat16> inputs(8 + 6 + 128);
  Bench<float> out(2 * 2);
  const std::vector<float> values{1, 2, 3, -9, 4, 5, 6, -9, 1, 0, 2, 0, 1, -1};
  std::vector<__nv_bfloat16> rounded(inputs.n);
  for (size_t i = 0; i < 8; ++i) rounded[i] = values[i];
  for (size_t i = 8; i < 14; ++i) rounded[120 + i] = values[i];  // aligned to 256 bytes
  cudaMemcpyAsync(inputs.data, rounded.data(), inputs.n * 2, cudaMemcpyHostToDevice, out.stream);

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t heuristic{};
  int found = 0;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  cublasLtCreate(&handle);
  cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
  cublasLtMatrixLayoutCreate(&a, CUDA_R_16BF, 3, 2, 4);
  cublasLtMatrixLayoutCreate(&b, CUDA_R_16BF, 3, 2, 3);
  cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, 2, 2, 2);
  cublasLtMatmulPreferenceCreate(&preference);
  CHECK(cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, d, d, preference, 1, &heuristic,
                                       &found) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(found == 1);
  const float one = 1, zero = 0;
  const auto multiply = [&](int b_offset) {
    return cublasLtMatmul(handle, desc, &one, inputs.data, a, inputs.data + b_offset, b, &zero,
                          out.data, d, out.data, d, &heuristic.algo, nullptr, 0, out.stream);
  };
  CHECK(multiply(127) == CUBLAS_STATUS_INVALID_VALUE);  // less aligned than the choice relied on
  CHECK(multiply(128) == CUBLAS_STATUS_SUCCESS);
  // Columns of A (1 2 3), (4 5 6); of B (1 0 2), (0 1 -1).
  CHECK(out.read() == std::vector<float>{1 + 6, 4 + 12, 2 - 3, 5 - 6});
  cublasLtMatmulPreferenceDestroy(preference);
  for (const auto layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
  cublasLtMatmulDescDestroy(desc);
  cublasLtDestroy(handle);
}

}  // namespace
