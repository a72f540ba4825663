// An attention step for tests of the CUDA unit's kernels: its keys and values in device memory, and
// what a part of it gives.
#pragma once

#include <algorithm>
#include <optional>

#include "attention_problem.h"
#include "cuda_test_data.h"

namespace tandem {

/// Other values for memory that nothing uses meanwhile.
template <class T>
void overwrite(const DeviceArray<T>& array, const std::vector<T>& values) {
  REQUIRE(cudaMemcpy(array.get(), values.data(), values.size() * sizeof(T),
                     cudaMemcpyHostToDevice) == cudaSuccess);
  // The copy may return before it has ended, and a stream of a unit waits for no other.
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

/// Keys and values of a cache or a step buffer. What was not put is NaN: no kernel may let it in.
class DeviceKv {
 public:
  DeviceKv(DType dtype, Range kv_heads, Range positions, int64_t head_dim)
      : view_{.dtype = dtype, .kv_heads = kv_heads, .positions = positions, .head_dim = head_dim},
        keys_(static_cast<size_t>(kv_heads.size() * view_.k_head_bytes()), std::byte{0xff}),
        values_(static_cast<size_t>(kv_heads.size() * view_.v_head_bytes()), std::byte{0xff}),
        device_keys_(keys_),
        device_values_(values_) {
    view_.k = device_keys_.get();
    view_.v = device_values_.get();
  }

  /// The device's.
  const KvView& view() const { return view_; }
  /// Stores row `row` of all heads from row `from` of [rows x kv_heads * head_dim] matrices.
  void put(int64_t row, const reference::Matrix& keys, const reference::Matrix& values,
           int64_t from) {
    put_row(host_view(), row, keys, values, from);
  }
  void upload() {
    overwrite(device_keys_, keys_);
    overwrite(device_values_, values_);
  }
  void download() {
    keys_ = device_keys_.read();
    values_ = device_values_.read();
  }
  double key(int64_t head, int64_t row, int64_t d) { return key_at(host_view(), head, row, d); }
  double value(int64_t head, int64_t row, int64_t d) { return value_at(host_view(), head, row, d); }

 private:
  KvView host_view() {
    KvView host = view_;
    host.k = keys_.data();
    host.v = values_.data();
    return host;
  }

  KvView view_;
  std::vector<std::byte> keys_, values_;
  DeviceArray<std::byte> device_keys_, device_values_;
};

/// What of a problem is attended; all of it, unless said otherwise.
struct AttentionShare {
  DType dtype = DType::kF16;
  std::optional<Range> kv_heads = {};  ///< the cache holds no others
  std::optional<Range> context = {};   ///< an open end is allowed
  Range home = {0, 0};                 ///< positions of the cache, empty: all
  bool include_new = true;
  bool state = false;        ///< leave states
  int64_t max_context = -1;  ///< -1: past
};

struct CudaAttentionProblem : AttentionProblem {
  using AttentionProblem::AttentionProblem;
  explicit CudaAttentionProblem(AttentionProblem problem) : AttentionProblem(std::move(problem)) {}

  /// A cache of `positions` (from a multiple of the chunk), filled as far as there are any.
  DeviceKv cache(DType dtype, Range positions, Range kv_heads) const {
    DeviceKv kv(dtype, kv_heads, positions, s.head_dim);
    fill_cache(kv, positions);
    kv.upload();
    return kv;
  }
  DeviceKv step(DType dtype) const {
    DeviceKv kv(dtype, {0, s.kv_heads}, step_positions(), s.head_dim);
    fill_step(kv);
    kv.upload();
    return kv;
  }

  /// What attention leaves, in device memory and in memory that others see, which start as 7.
  std::vector<float> attend(const AttentionShare& share) const {
    const Range home = share.home.empty() ? Range{0, round_up(s.past + 1, 256)} : share.home;
    const Range kv_heads = share.kv_heads.value_or(Range{0, s.kv_heads});
    const DeviceKv kv = cache(share.dtype, home, kv_heads), fresh = step(share.dtype);
    const DeviceArray<float> queries(q);
    const DeviceArray<int32_t> parents_there(parents);
    const std::vector<float> sevens(
        static_cast<size_t>(s.tokens * (share.state ? state_stride() : q_stride())), 7);
    const DeviceArray<float> own(sevens), shared(sevens);
    cuda::AttentionLaunch launch{.args = {.tokens = s.tokens,
                                          .parents = tree() ? parents_there.get() : nullptr,
                                          .past = s.past,
                                          .kv_heads = kv_heads,
                                          .group = s.group,
                                          .head_dim = s.head_dim,
                                          .scale = scale(),
                                          .q = queries.get(),
                                          .q_stride = q_stride(),
                                          .cache = kv.view(),
                                          .context = share.context.value_or(Range{0, s.past}),
                                          .include_new = share.include_new,
                                          .step = fresh.view()},
                                 .past = {.fixed = s.past},
                                 .max_context = std::max(share.max_context, s.past),
                                 .shared = shared.get()};
    (share.state ? launch.args.state : launch.args.out) = own.get();
    const DeviceArray<float> scratch = scratch_for(launch);
    launch.chunk_states = scratch.get();
    cuda::attention(launch, nullptr);
    CHECK(differing(own.read(), shared.read()) == 0);
    return own.read();
  }
  /// NaN, as large as a launch asks for and no larger.
  static DeviceArray<float> scratch_for(const cuda::AttentionLaunch& launch) {
    const int64_t heads = launch.args.kv_heads.size() * launch.args.group;
    const int64_t bytes = cuda::attention_scratch_bytes(launch.args.tokens, heads,
                                                        launch.args.head_dim, launch.max_context);
    return DeviceArray<float>(std::vector<float>(static_cast<size_t>(bytes) / sizeof(float),
                                                 std::numeric_limits<float>::quiet_NaN()));
  }
};

}  // namespace tandem
