#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <type_traits>

#include "kernels/cuda_blas.cuh"
#include "kernels/cuda_blas_library.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/device.h"

namespace tandem::cuda {
namespace {

void check_blas(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(fmt::format("CUDA: {}: status {}", call, static_cast<int>(status)));
}

/// What is used of cuBLASLt.
struct Functions {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
};

template <class Function>
bool find(const char* name, Function& function) {
  function = reinterpret_cast<Function>(open_blas_symbol(name));
  return function != nullptr;
}

bool find_all(Functions& f) {
  return find("cublasLtCreate", f.create) && find("cublasLtDestroy", f.destroy) &&
         find("cublasLtMatmul", f.matmul) &&
         find("cublasLtMatmulAlgoGetHeuristic", f.get_heuristic) &&
         find("cublasLtMatmulDescCreate", f.desc_create) &&
         find("cublasLtMatmulDescDestroy", f.desc_destroy) &&
         find("cublasLtMatmulDescSetAttribute", f.desc_set) &&
         find("cublasLtMatrixLayoutCreate", f.layout_create) &&
         find("cublasLtMatrixLayoutDestroy", f.layout_destroy) &&
         find("cublasLtMatmulPreferenceCreate", f.preference_create) &&
         find("cublasLtMatmulPreferenceDestroy", f.preference_destroy) &&
         find("cublasLtMatmulPreferenceSetAttribute", f.preference_set);
}

uint32_t alignment(const void* p) {
  constexpr uintptr_t kMost = 256;
  return 1u << std::countr_zero(reinterpret_cast<uintptr_t>(p) | kMost);
}

/// What the choice of a kernel depends on: all of a product but where exactly it lies.
struct Key {
  cudaDataType_t type;
  int64_t columns, tokens, k;
  int64_t w_stride, x_stride, y_stride;
  uint32_t w_align, x_align, y_align;

  explicit Key(const Product& p)
      : type(p.type),
        columns(p.columns),
        tokens(p.tokens),
        k(p.k),
        w_stride(p.w_stride),
        x_stride(p.x_stride),
        y_stride(p.y_stride),
        w_align(alignment(p.w)),
        x_align(alignment(p.x)),
        y_align(alignment(p.y)) {}
  auto operator<=>(const Key&) const = default;
};

/// The library's matrices are column-major: w is [k x columns], and is transposed; x is [k x
/// tokens], y is [columns x tokens].
struct Plan {
  template <class Handle>
  using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;
  Owned<cublasLtMatmulDesc_t> desc;
  Owned<cublasLtMatrixLayout_t> w, x, y;
  std::optional<cublasLtMatmulAlgo_t> algo;  ///< none: the library has no kernel
};

}  // namespace

struct Blas {
  Functions f;
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Plan> plans;

  Plan::Owned<cublasLtMatrixLayout_t> layout(cudaDataType_t type, int64_t rows, int64_t columns,
                                             int64_t stride) const {
    cublasLtMatrixLayout_t made = nullptr;
    check_blas(f.layout_create(&made, type, static_cast<uint64_t>(rows),
                               static_cast<uint64_t>(columns), stride),
               "cublasLtMatrixLayoutCreate");
    return {made, f.layout_destroy};
  }

  std::optional<cublasLtMatmulAlgo_t> choose(const Plan& plan, const Key& key) const {
    cublasLtMatmulPreference_t made = nullptr;
    check_blas(f.preference_create(&made), "cublasLtMatmulPreferenceCreate");
    const Plan::Owned<cublasLtMatmulPreference_t> preference(made, f.preference_destroy);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check_blas(f.preference_set(made, attribute, &value, sizeof value),
                 "cublasLtMatmulPreferenceSetAttribute");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kBlasWorkspaceBytes));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.w_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.x_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.y_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.y_align);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status =
        f.get_heuristic(handle, plan.desc.get(), plan.w.get(), plan.x.get(), plan.y.get(),
                        plan.y.get(), made, 1, &best, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) return std::nullopt;
    return best.algo;
  }

  Plan make_plan(const Key& key) const {
    cublasLtMatmulDesc_t desc = nullptr;
    check_blas(f.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    Plan plan{.desc = {desc, f.desc_destroy},
              .w = layout(key.type, key.k, key.columns, key.w_stride),
              .x = layout(key.type, key.k, key.tokens, key.x_stride),
              .y = layout(CUDA_R_32F, key.columns, key.tokens, key.y_stride),
              .algo = {}};
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check_blas(f.desc_set(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
               "cublasLtMatmulDescSetAttribute");
    plan.algo = choose(plan, key);
    return plan;
  }

  const Plan& plan(const Key& key) {
    const auto found = plans.find(key);
    return found != plans.end() ? found->second : plans.emplace(key, make_plan(key)).first->second;
  }
};

Blas* open_blas() {
  auto blas = std::make_unique<Blas>();
  if (!find_all(blas->f)) return nullptr;
  if (blas->f.create(&blas->handle) != CUBLAS_STATUS_SUCCESS) return nullptr;
  return blas.release();
}

void close_blas(Blas* blas) {
  if (blas == nullptr) return;
  blas->plans.clear();
  blas->f.destroy(blas->handle);
  delete blas;
}

bool multiply(Blas& blas, const Product& p, cudaStream_t stream) {
  const Plan& plan = blas.plan(Key(p));
  if (!plan.algo) return false;
  const float one = 1, zero = 0;
  check_blas(blas.f.matmul(blas.handle, plan.desc.get(), &one, p.w, plan.w.get(), p.x, plan.x.get(),
                           &zero, p.y, plan.y.get(), p.y, plan.y.get(), &*plan.algo, p.workspace,
                           kBlasWorkspaceBytes, stream),
             "cublasLtMatmul");
  return true;
}

}  // namespace tandem::cuda

namespace tandem {

bool has_cuda_matrix_library() {
  cuda::Functions functions;
  return cuda::find_all(functions);
}

}  // namespace tandem
