// An attention step for tests of the CUDA unit's kernels: its keys and values in device memory,
// what a part of it gives, and what it should.
#pragma once

#include <algorithm>
#include <optional>

#include "cuda_test_data.h"

namespace tandem {

/// Other values for memory that nothing uses meanwhile.
template <class T>
void overwrite(const DeviceArray<T>& array, const std::vector<T>& values) {
  REQUIRE(cudaMemcpy(array.get(), values.data(), values.size() * sizeof(T),
                     cudaMemcpyHostToDevice) == cudaSuccess);
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
    const KvView host = host_view();
    const int64_t d = view_.head_dim;
    for (int64_t head = view_.kv_heads.begin; head < view_.kv_heads.end; ++head)
      for (int64_t i = 0; i < view_.value_stride(); ++i) {
        if (i < d) set(host.key(head, row) + 16 * i * element(), keys(from, head * d + i));
        set(host.value(head, row) + i * element(), i < d ? values(from, head * d + i) : 0);
      }
  }
  void upload() {
    overwrite(device_keys_, keys_);
    overwrite(device_values_, values_);
  }
  void download() {
    keys_ = device_keys_.read();
    values_ = device_values_.read();
  }
  double key(int64_t head, int64_t row, int64_t d) {
    return get(host_view().key(head, row) + 16 * d * element());
  }
  double value(int64_t head, int64_t row, int64_t d) {
    return get(host_view().value(head, row) + d * element());
  }

 private:
  int64_t element() const { return info(view_.dtype).block_bytes; }
  KvView host_view() {
    KvView host = view_;
    host.k = keys_.data();
    host.v = values_.data();
    return host;
  }
  double get(const std::byte* p) const {
    return reference::dequantize_row(view_.dtype, p, 1)(0, 0);
  }
  void set(std::byte* p, double x) const {
    const auto single = static_cast<float>(x);
    const uint16_t half = f32_to_f16(single);
    if (view_.dtype == DType::kF32) {
      std::memcpy(p, &single, sizeof single);
    } else {
      std::memcpy(p, &half, sizeof half);
    }
  }

  KvView view_;
  std::vector<std::byte> keys_, values_;
  DeviceArray<std::byte> device_keys_, device_values_;
};

/// Normal values that f16 holds exactly: what a cache gives back is what was put.
inline reference::Matrix halves(int64_t rows, int64_t columns, uint64_t seed) {
  std::vector<float> values = random_floats(rows * columns, seed);
  for (float& value : values) value = f16_to_f32(f32_to_f16(value));
  return reference::from_floats(values.data(), rows, columns);
}

struct AttentionShape {
  int64_t tokens = 1;
  int64_t past = 0;
  int64_t head_dim = 64;
  int64_t kv_heads = 2;
  int64_t group = 3;
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

/// A step's queries, keys and values, all of which f16 holds exactly.
struct AttentionProblem {
  explicit AttentionProblem(const AttentionShape& shape, std::vector<int32_t> tree = {})
      : s(shape),
        parents(std::move(tree)),
        q(random_floats(s.tokens * q_stride(), 1)),
        cached_keys(halves(s.past, s.kv_heads * s.head_dim, 2)),
        cached_values(halves(s.past, s.kv_heads * s.head_dim, 3)),
        new_keys(halves(s.tokens, s.kv_heads * s.head_dim, 4)),
        new_values(halves(s.tokens, s.kv_heads * s.head_dim, 5)) {}

  int64_t q_stride() const { return s.kv_heads * s.group * s.head_dim; }
  int64_t state_stride() const { return s.kv_heads * s.group * (s.head_dim + 2); }
  const int32_t* tree() const { return parents.empty() ? nullptr : parents.data(); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(s.head_dim)); }

  /// A cache of `positions` (from a multiple of the chunk), filled as far as there are any.
  DeviceKv cache(DType dtype, Range positions, Range kv_heads) const {
    DeviceKv kv(dtype, kv_heads, positions, s.head_dim);
    for (int64_t p = positions.begin; p < std::min(positions.end, s.past); ++p)
      kv.put(p - positions.begin, cached_keys, cached_values, p);
    kv.upload();
    return kv;
  }
  DeviceKv step(DType dtype) const {
    DeviceKv kv(dtype, {0, s.kv_heads}, {0, round_up(s.tokens, 16) + 16}, s.head_dim);
    for (int64_t t = 0; t < s.tokens; ++t) kv.put(s.past % 16 + t, new_keys, new_values, t);
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

  reference::Matrix exact() const {
    return reference::attention_output(
        reference::attention({.q = reference::from_floats(q.data(), s.tokens, q_stride()),
                              .cached_keys = cached_keys,
                              .cached_values = cached_values,
                              .new_keys = new_keys,
                              .new_values = new_values,
                              .context = {0, s.past},
                              .parents = tree(),
                              .head_dim = s.head_dim,
                              .group = s.group,
                              .scale = scale()}));
  }

  /// Token t alone, after the context and its ancestors have been decoded into the cache.
  AttentionProblem alone(int64_t t) const {
    std::vector<int64_t> path;
    for (int64_t a = t; a >= 0; a = tree() ? parents[static_cast<size_t>(a)] : a - 1)
      path.insert(path.begin(), a);
    const auto depth = static_cast<int64_t>(path.size()) - 1;
    AttentionProblem one({1, s.past + depth, s.head_dim, s.kv_heads, s.group});
    std::copy_n(&q[static_cast<size_t>(t * q_stride())], q_stride(), one.q.begin());
    one.cached_keys.topRows(s.past) = cached_keys;
    one.cached_values.topRows(s.past) = cached_values;
    for (int64_t i = 0; i < depth; ++i) {
      one.cached_keys.row(s.past + i) = new_keys.row(path[static_cast<size_t>(i)]);
      one.cached_values.row(s.past + i) = new_values.row(path[static_cast<size_t>(i)]);
    }
    one.new_keys.row(0) = new_keys.row(t);
    one.new_values.row(0) = new_values.row(t);
    return one;
  }

  AttentionShape s;
  std::vector<int32_t> parents;
  std::vector<float> q;
  reference::Matrix cached_keys, cached_values, new_keys, new_values;
};

}  // namespace tandem
