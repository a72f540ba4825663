#include "attention_problem.h"
#include "cuda_test_data.h"
#include "kernels/rope.h"

using namespace tandem;
using namespace tandem::cuda;
using Values2D = reference::Matrix;

namespace {

constexpr float kHeadsEps = 1e-5f;
const std::byte kUntouchedByte{0x2b};

/// Keys and values of a step buffer, on the host and on the device.
class StepBuffer {
 public:
  StepBuffer(DType dtype, Range kv_heads, int64_t rows, int64_t head_dim)
      : view_{.dtype = dtype, .kv_heads = kv_heads, .positions = {0, rows}, .head_dim = head_dim},
        keys_(static_cast<size_t>(kv_heads.size() * view_.k_head_bytes()), kUntouchedByte),
        values_(static_cast<size_t>(kv_heads.size() * view_.v_head_bytes()), kUntouchedByte),
        device_keys_(keys_),
        device_values_(values_) {}

  KvView on_device() const {
    KvView view = view_;
    view.k = device_keys_.get();
    view.v = device_values_.get();
    return view;
  }
  void read() {
    keys_ = device_keys_.read();
    values_ = device_values_.read();
  }
  double key(int64_t head, int64_t row, int64_t d) { return key_at(on_host(), head, row, d); }
  double value(int64_t head, int64_t row, int64_t d) { return value_at(on_host(), head, row, d); }
  /// Bytes that were written.
  int64_t touched() const {
    int64_t count = 0;
    for (const auto* bytes : {&keys_, &values_})
      for (const std::byte b : *bytes) count += b != kUntouchedByte;
    return count;
  }
  bool operator==(const StepBuffer& other) const {
    return keys_ == other.keys_ && values_ == other.values_;
  }

 private:
  KvView on_host() {
    KvView view = view_;
    view.k = keys_.data();
    view.v = values_.data();
    return view;
  }
  KvView view_;
  std::vector<std::byte> keys_, values_;
  DeviceArray<std::byte> device_keys_, device_values_;
};

/// Products of heads of 3 kv heads with 2 query heads each, at positions after 21 cached ones.
struct HeadsCase {
  HeadsCase(int64_t dim, int64_t rope, RopeOrder rope_order, bool norms, bool biases,
            int64_t step_tokens)
      : head_dim(dim),
        rope_dim(rope),
        order(rope_order),
        with_norm(norms),
        with_bias(biases),
        tokens(step_tokens) {
    for (int64_t t = 0; t < tokens; ++t) positions.push_back(kPast + t);
    cos_sin.resize(static_cast<size_t>(tokens * rope_dim));
    fill_rope_table(positions, frequencies, cos_sin.data());
  }

  static constexpr int64_t kHeads = 3, kGroup = 2, kPast = 21;
  int64_t head_dim, rope_dim;
  RopeOrder order;
  bool with_norm, with_bias;
  int64_t tokens;
  std::vector<double> frequencies = inverse_frequencies(10000, rope_dim, {});
  std::vector<int64_t> positions;
  std::vector<float> cos_sin;
  std::vector<float> q = random_floats(tokens * kHeads * kGroup * head_dim, 1);
  std::vector<float> k = random_floats(tokens * kHeads * head_dim, 2);
  std::vector<float> v = random_floats(tokens * kHeads * head_dim, 3);
  std::vector<float> bq = random_floats(kHeads * kGroup * head_dim, 4);
  std::vector<float> bk = random_floats(kHeads * head_dim, 5);
  std::vector<float> bv = random_floats(kHeads * head_dim, 6);
  std::vector<float> q_norm = random_floats(head_dim, 7), k_norm = random_floats(head_dim, 8);

  /// Products as they come: queries, keys and values of some kv heads, token by token.
  std::vector<float> products(Range heads) const {
    std::vector<float> all;
    for (int64_t t = 0; t < tokens; ++t)
      for (const auto& [from, per_head] :
           {std::pair{&q, kGroup}, {&k, int64_t{1}}, {&v, int64_t{1}}}) {
        const int64_t width = per_head * head_dim;
        const auto row = from->begin() + t * kHeads * width;
        all.insert(all.end(), row + heads.begin * width, row + heads.end * width);
      }
    return all;
  }

  struct Result {
    std::vector<float> q, shared_q;
    StepBuffer step, shared;
  };
  Result run(Range heads, DType kv_dtype, bool looked_up) const {
    const int64_t stride = kHeads * kGroup * head_dim;
    const std::vector<float> untouched(static_cast<size_t>(tokens * stride), kUntouched);
    const int64_t rows = round_up(kPast % 16 + tokens, 16);
    Result result{.q = {},
                  .shared_q = {},
                  .step = StepBuffer(kv_dtype, {0, kHeads}, rows, head_dim),
                  .shared = StepBuffer(kv_dtype, heads, rows + 16, head_dim)};
    const DeviceArray<float> from(products(heads)), angles(cos_sin), bias_q(bq), bias_k(bk),
        bias_v(bv), norm_q(q_norm), norm_k(k_norm), out(untouched), shared(untouched);
    const DeviceArray<int64_t> past(std::vector<int64_t>{kPast});
    HeadsLaunch launch;
    launch.products = from.get();
    launch.products_stride = heads.size() * (kGroup + 2) * head_dim;
    QkvArgs& args = launch.args;
    args.input = {.tokens = tokens, .norm_eps = kHeadsEps};
    if (with_bias) args.bq = bias_q.get(), args.bk = bias_k.get(), args.bv = bias_v.get();
    if (with_norm) args.q_norm = norm_q.get(), args.k_norm = norm_k.get();
    args.kv_heads = heads;
    args.group = kGroup;
    args.head_dim = head_dim;
    args.rope_dim = rope_dim;
    args.rope_order = order;
    args.cos_sin = angles.get();
    args.q = out.get();
    args.q_stride = stride;
    args.step = result.step.on_device();
    launch.past = {.at = looked_up ? past.get() : nullptr, .fixed = looked_up ? 0 : kPast};
    launch.shared_q = shared.get();
    launch.shared_step = result.shared.on_device();
    finish_heads(launch, nullptr);
    result.q = out.read();
    result.shared_q = shared.read();
    result.step.read();
    result.shared.read();
    return result;
  }

  Values2D exact(const std::vector<float>& from, std::span<const float> bias,
                 std::span<const float> head_norm, bool rotated) const {
    const auto width = static_cast<int64_t>(bias.size());
    Values2D y = reference::from_floats(from.data(), tokens, width);
    if (with_bias) y.rowwise() += reference::from_floats(bias.data(), 1, width).row(0);
    if (with_norm && !head_norm.empty()) y = reference::rms_norm(y, head_norm, kHeadsEps);
    if (rotated) reference::rope(y, head_dim, order, positions, frequencies);
    return y;
  }
};

void check_heads(const HeadsCase& test, DType kv_dtype, Range heads, bool looked_up) {
  HeadsCase::Result result = test.run(heads, kv_dtype, looked_up);
  const int64_t d = test.head_dim, stride = test.kHeads * test.kGroup * d;
  const Range queries{heads.begin * test.kGroup * d, heads.end * test.kGroup * d};
  const Values2D exact_q = test.exact(test.q, test.bq, test.q_norm, true);
  const Values2D actual_q = reference::from_floats(result.q.data(), test.tokens, stride);
  CHECK(differing_in(result.shared_q, result.q, stride, 0, queries, kUntouched) == 0);
  CHECK(differing_in(result.q, result.q, stride, 0, queries, kUntouched) == 0);
  const auto part = [&](const Values2D& all) -> Values2D {
    return all.middleCols(queries.begin, queries.size());
  };
  check_near(part(actual_q), part(exact_q), Values2D::Constant(test.tokens, queries.size(), 1e-5));

  const Values2D exact_k = test.exact(test.k, test.bk, test.k_norm, true);
  const Values2D exact_v = test.exact(test.v, test.bv, {}, false);
  Values2D keys = exact_k, values = exact_v;
  int64_t unshared = 0;
  for (int64_t head = heads.begin; head < heads.end; ++head)
    for (int64_t t = 0; t < test.tokens; ++t)
      for (int64_t i = 0; i < d; ++i) {
        const int64_t row = test.kPast % 16 + t;
        keys(t, head * d + i) = result.step.key(head, row, i);
        values(t, head * d + i) = result.step.value(head, row, i);
        unshared += result.shared.key(head, row, i) != keys(t, head * d + i) ||
                    result.shared.value(head, row, i) != values(t, head * d + i);
      }
  CHECK(unshared == 0);
  // Half of the last bit of an element, of q8_0 of the largest one's 1 / 127 (and its scale's).
  const double relative = kv_dtype == DType::kF16 ? 0x1p-11 : kv_dtype == DType::kBF16 ? 0x1p-8 : 0;
  const double of_largest = kv_dtype == DType::kQ8_0 ? 0.5 / 127 + 0x1p-11 : 0;
  const auto tolerance = [&](const Values2D& exact) -> Values2D {
    return (relative * exact.cwiseAbs().array() + of_largest * exact.cwiseAbs().maxCoeff() + 1e-5)
        .matrix();
  };
  check_near(keys, exact_k, tolerance(exact_k));
  check_near(values, exact_v, tolerance(exact_v));
  // No other byte but those of the elements (fewer where one happens to be as it was).
  const int64_t most = 2 * heads.size() * test.tokens * row_bytes(kv_dtype, d);
  CHECK(result.step.touched() <= most);
  CHECK(result.shared.touched() <= most);
}

}  // namespace

TEST_CASE("heads get bias, norm and both orders of RoPE, and go to q and the step buffer") {
  for (const RopeOrder order : {RopeOrder::kNormal, RopeOrder::kNeox})
    for (const int64_t head_dim : {20, 64, 128})
      for (const DType kv_dtype : kKvFormats) {
        if (!has_format(head_dim, kv_dtype)) continue;
        const bool neox = order == RopeOrder::kNeox;
        CAPTURE(neox);
        CAPTURE(head_dim);
        CAPTURE(name(kv_dtype));
        check_heads({head_dim, head_dim, order, neox, true, 18}, kv_dtype, {0, 3}, neox);
        check_heads({head_dim, 16, order, !neox, !neox, 3}, kv_dtype, {1, 3}, !neox);
        check_heads({head_dim, head_dim, order, !neox, neox, 1}, kv_dtype, {1, 2}, true);
      }
}

TEST_CASE("a CUDA unit rounds keys and values to q8_0 as a CPU unit does") {
  const HeadsCase test(64, 64, RopeOrder::kNeox, true, true, 5);
  HeadsCase::Result exact = test.run({0, 3}, DType::kF32, false);
  HeadsCase::Result kept = test.run({0, 3}, DType::kQ8_0, false);
  int64_t wrong = 0;
  for (int64_t head = 0; head < 3; ++head)
    for (int64_t row = 5; row < 10; ++row) {
      Values2D key(1, 64), value(1, 64);
      for (int64_t i = 0; i < 64; ++i) {
        key(0, i) = exact.step.key(head, row, i);
        value(0, i) = exact.step.value(head, row, i);
      }
      key = reference::kv_rounded(DType::kQ8_0, key);
      value = reference::kv_rounded(DType::kQ8_0, value);
      for (int64_t i = 0; i < 64; ++i)
        wrong += key(0, i) != kept.step.key(head, row, i) ||
                 value(0, i) != kept.step.value(head, row, i);
    }
  CHECK(wrong == 0);
}

TEST_CASE("a head is the same bits alone") {
  const HeadsCase test(20, 20, RopeOrder::kNormal, true, true, 5);
  HeadsCase::Result both = test.run({0, 3}, DType::kF16, false);
  HeadsCase::Result second = test.run({1, 2}, DType::kF16, false);
  CHECK(differing_in(second.q, both.q, 120, 0, {40, 80}, kUntouched) == 0);
  int64_t wrong = 0;
  for (int64_t row = 5; row < 10; ++row)
    for (int64_t i = 0; i < 20; ++i)
      wrong += both.step.key(1, row, i) != second.step.key(1, row, i) ||
               both.step.value(1, row, i) != second.step.value(1, row, i);
  CHECK(wrong == 0);
}

TEST_CASE("nothing is written where nobody else reads it") {
  const HeadsCase test(20, 16, RopeOrder::kNeox, false, false, 2);
  const DeviceArray<float> products(test.products({0, 3})), angles(test.cos_sin),
      q(std::vector<float>(240));
  StepBuffer step(DType::kF32, {0, 3}, 16, 20);
  HeadsLaunch launch;
  launch.products = products.get();
  launch.products_stride = 240;
  launch.args.input.tokens = 2;
  launch.args.kv_heads = {0, 3};
  launch.args.group = 2;
  launch.args.head_dim = 20;
  launch.args.rope_dim = 16;
  launch.args.rope_order = RopeOrder::kNeox;
  launch.args.cos_sin = angles.get();
  launch.args.q = q.get();
  launch.args.q_stride = 120;
  launch.args.step = step.on_device();
  launch.past.fixed = 37;
  finish_heads(launch, nullptr);
  step.read();
  CHECK(step.value(2, 6, 3) == test.v[(120 - 60) + 40 + 3]);  // token 1, head 2; row 37 % 16 + 1
}
