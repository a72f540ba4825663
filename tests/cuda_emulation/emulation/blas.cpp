// cuBLASLt on Eigen: every product is computed in float when its stream comes to it. Refused is
// what the library refuses, as far as tandem could come upon it.
#include <cublasLt.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstring>

#include "emulation/machine.h"
#include "emulation/stream.h"
#include "kernels/half.h"

struct cublasLtContext {
  int device = 0;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  uint64_t rows;
  uint64_t cols;
  int64_t ld;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale_type;
  bool transpose_a = false;
  bool transpose_b = false;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t max_workspace_bytes = 0;
  uint32_t alignment_bytes[4] = {256, 256, 256, 256};  ///< of A, B, C, D
};

namespace cuda_emulation {
namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using Matrix = Eigen::MatrixXf;

/// What an algorithm relies on; kept in cublasLtMatmulAlgo_t.
struct Terms {
  uint64_t workspace_bytes;
  uint32_t alignment_bytes[4];
};
static_assert(sizeof(Terms) <= sizeof(cublasLtMatmulAlgo_t));

/// As large as allowed, so that who allows more than he gives is seen.
constexpr uint64_t kLargestWorkspace = 4 << 20;

int64_t element_bytes(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

bool is_supported(cudaDataType_t type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

float load(const std::byte* at, cudaDataType_t type) {
  if (type == CUDA_R_32F) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return type == CUDA_R_16F ? tandem::f16_to_f32(bits) : tandem::bf16_to_f32(bits);
}

void store(std::byte* at, cudaDataType_t type, float value) {
  if (type == CUDA_R_32F) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const uint16_t bits = type == CUDA_R_16F ? tandem::f32_to_f16(value) : tandem::f32_to_bf16(value);
  std::memcpy(at, &bits, sizeof bits);
}

int64_t offset(const Layout& layout, int64_t row, int64_t col) {
  return (col * layout.ld + row) * element_bytes(layout.type);
}

Matrix read(const Layout& layout, const std::byte* data) {
  Matrix matrix(static_cast<int64_t>(layout.rows), static_cast<int64_t>(layout.cols));
  for (int64_t col = 0; col < matrix.cols(); ++col)
    for (int64_t row = 0; row < matrix.rows(); ++row)
      matrix(row, col) = load(data + offset(layout, row, col), layout.type);
  return matrix;
}

void write(const Layout& layout, std::byte* data, const Matrix& matrix) {
  for (int64_t col = 0; col < matrix.cols(); ++col)
    for (int64_t row = 0; row < matrix.rows(); ++row)
      store(data + offset(layout, row, col), layout.type, matrix(row, col));
}

/// Everything a product needs, by value: its descriptions may be destroyed before it is computed.
struct Product {
  cublasLtMatmulDescOpaque_t desc;
  float alpha = 1;
  float beta = 0;
  Layout layouts[4];            ///< of A, B, C, D
  const std::byte* inputs[3];   ///< A, B, C
  std::byte* output = nullptr;  ///< D
  std::byte* workspace = nullptr;
  uint64_t workspace_bytes = 0;
};

void compute(const Product& p) {
  // Who passes less than he says is seen by asan.
  if (p.workspace_bytes > 0) std::memset(p.workspace, 0xff, p.workspace_bytes);
  Matrix a = read(p.layouts[0], p.inputs[0]), b = read(p.layouts[1], p.inputs[1]);
  if (p.desc.transpose_a) a.transposeInPlace();
  if (p.desc.transpose_b) b.transposeInPlace();
  Matrix d = p.alpha * (a * b);
  if (p.beta != 0) d += p.beta * read(p.layouts[2], p.inputs[2]);
  write(p.layouts[3], p.output, d);
}

cublasStatus_t check(const cublasLtMatmulDescOpaque_t& desc, const Layout& a, const Layout& b,
                     const Layout& c, const Layout& d) {
  const uint64_t m = desc.transpose_a ? a.cols : a.rows, k = desc.transpose_a ? a.rows : a.cols;
  const uint64_t k_of_b = desc.transpose_b ? b.cols : b.rows;
  const uint64_t n = desc.transpose_b ? b.rows : b.cols;
  if (k != k_of_b || d.rows != m || d.cols != n || c.rows != m || c.cols != n)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const Layout* layout : {&a, &b, &c, &d})
    if (layout->ld < static_cast<int64_t>(layout->rows)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool types = is_supported(a.type) && a.type == b.type && is_supported(d.type) &&
                     c.type == d.type && (d.type == CUDA_R_32F || d.type == a.type);
  const bool in_float = desc.compute >= CUBLAS_COMPUTE_32F && desc.scale_type == CUDA_R_32F;
  return types && in_float ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

bool is_aligned(const void* p, uint64_t bytes) {
  return bytes == 0 || reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

template <class T>
bool read_attribute(const void* buf, size_t bytes, T& value) {
  if (buf == nullptr || bytes < sizeof value) return false;
  std::memcpy(&value, buf, sizeof value);
  return true;
}
constexpr cublasStatus_t done(bool well) {
  return well ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

}  // namespace
}  // namespace cuda_emulation

using namespace cuda_emulation;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (ready() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext{.device = current_device()};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  *desc = new cublasLtMatmulDescOpaque_t{.compute = compute, .scale_type = scale_type};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attr, const void* buf,
                                              size_t bytes) {
  int32_t value = 0;
  if (!read_attribute(buf, bytes, value)) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attr) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      desc->transpose_a = value != CUBLAS_OP_N;
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      desc->transpose_b = value != CUBLAS_OP_N;
      break;
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return done(value == CUBLASLT_POINTER_MODE_HOST);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return done(value == 1);  // the default: none
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = new Layout{.type = type, .rows = rows, .cols = cols, .ld = ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attr,
                                                const void* buf, size_t bytes) {
  int32_t order = 0;
  switch (attr) {
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return done(read_attribute(buf, bytes, layout->rows));
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return done(read_attribute(buf, bytes, layout->cols));
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return done(read_attribute(buf, bytes, layout->ld));
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return done(read_attribute(buf, bytes, order) && order == CUBLASLT_ORDER_COL);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* pref) {
  *pref = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref) {
  delete pref;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr,
                                                    const void* buf, size_t bytes) {
  if (attr == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return done(read_attribute(buf, bytes, pref->max_workspace_bytes));
  const int matrix = attr - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  if (matrix < 0 || matrix > 3) return CUBLAS_STATUS_SUCCESS;  // changes no result
  return done(read_attribute(buf, bytes, pref->alignment_bytes[matrix]));
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a_layout,
    cublasLtMatrixLayout_t b_layout, cublasLtMatrixLayout_t c_layout,
    cublasLtMatrixLayout_t d_layout, cublasLtMatmulPreference_t pref, int requested_count,
    cublasLtMatmulHeuristicResult_t results[], int* returned_count) {
  *returned_count = 0;
  if (handle == nullptr || requested_count < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasStatus_t status = check(*desc, *a_layout, *b_layout, *c_layout, *d_layout);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Terms terms{};
  terms.workspace_bytes = std::min(pref->max_workspace_bytes, kLargestWorkspace);
  std::copy_n(pref->alignment_bytes, 4, terms.alignment_bytes);
  results[0] = {};
  std::memcpy(&results[0].algo, &terms, sizeof terms);
  results[0].workspaceSize = terms.workspace_bytes;
  results[0].wavesCount = 1;
  *returned_count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr || alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasStatus_t status = check(*desc, *a_layout, *b_layout, *c_layout, *d_layout);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Terms terms{};
  if (algo != nullptr) std::memcpy(&terms, algo, sizeof terms);
  const void* operands[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!is_aligned(operands[i], terms.alignment_bytes[i])) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes < terms.workspace_bytes || !is_aligned(workspace, 16))
    return CUBLAS_STATUS_INVALID_VALUE;
  Product product{.desc = *desc,
                  .layouts = {*a_layout, *b_layout, *c_layout, *d_layout},
                  .inputs = {static_cast<const std::byte*>(a), static_cast<const std::byte*>(b),
                             static_cast<const std::byte*>(c)},
                  .output = static_cast<std::byte*>(d),
                  .workspace = static_cast<std::byte*>(workspace),
                  .workspace_bytes = terms.workspace_bytes};
  std::memcpy(&product.alpha, alpha, sizeof product.alpha);
  std::memcpy(&product.beta, beta, sizeof product.beta);
  const cudaError_t queued =
      submit(stream, cudaGraphNodeTypeKernel, [product] { compute(product); });
  return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
