#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "kernels/error.h"
#include "kernels/rope.h"
#include "test_device.h"

using namespace tandem;
using reference::Matrix;

namespace {

constexpr float kEps = 1e-5f;

/// A linear of 17 + 83 columns over ragged panels, with a norm before it.
struct LinearCase {
  explicit LinearCase(DType dtype, int64_t tokens_of_step = 19)
      : weights(make_matrix(dtype, 100, k, 1)),
        up(make_matrix(dtype, 100, k, 4)),
        tokens(tokens_of_step),
        x(random_floats(tokens * k, 2)),
        norm(random_floats(k, 3)) {}

  LinearInput input() const {
    return {.x = x.data(), .tokens = tokens, .norm_weight = norm.data(), .norm_eps = kEps};
  }
  Matrix normed() const {
    return reference::rms_norm(reference::from_floats(x.data(), tokens, k), norm, kEps);
  }
  /// Columns of the linear, added to y = 1 or written over it.
  std::vector<float> linear(Device& device, Range resident, Range columns, bool add) const {
    const auto placed = device.place(weights.source(), resident);
    std::vector<float> y(static_cast<size_t>(tokens * 100), 1);
    device.linear({.input = input(),
                   .weights = placed.get(),
                   .columns = columns,
                   .y = y.data(),
                   .y_stride = 100,
                   .add = add});
    return y;
  }
  std::vector<float> gate_up(Device& device, Range columns) const {
    const auto gates = device.place(weights.source(), columns);
    const auto ups = device.place(up.source(), columns);
    std::vector<float> h(static_cast<size_t>(tokens * 100), 1);
    device.gate_up({.input = input(),
                    .gate = gates.get(),
                    .up = ups.get(),
                    .columns = columns,
                    .h = h.data(),
                    .h_stride = 100});
    return h;
  }

  static constexpr int64_t k = 96;
  TestMatrix weights, up;
  int64_t tokens;
  std::vector<float> x, norm;
};

/// Elements of `part` that are not those of `whole` inside `columns`, or were touched outside.
int64_t wrong_columns(const std::vector<float>& part, const std::vector<float>& whole,
                      Range columns, int64_t stride, float untouched) {
  int64_t wrong = 0;
  for (size_t i = 0; i < part.size(); ++i) {
    const bool inside = columns.contains(static_cast<int64_t>(i) % stride);
    wrong += part[i] != (inside ? whole[i] : untouched);
  }
  return wrong;
}

/// Query, key and value of 2 kv heads with 3 query heads each, at positions after 21 cached ones.
struct QkvCase {
  int64_t head_dim, rope_dim;
  RopeOrder order;
  bool with_norm;
  int64_t tokens = 18, past = 21;

  static constexpr int64_t k = 64, kv_heads = 2, group = 3;
  TestMatrix wq =
      make_matrix(DType::kF32, kv_heads* group* head_dim, k, 1, Values::kRandom, head_dim);
  TestMatrix wk = make_matrix(DType::kF32, kv_heads* head_dim, k, 2, Values::kRandom, head_dim);
  TestMatrix wv = make_matrix(DType::kF32, kv_heads* head_dim, k, 3, Values::kRandom, head_dim);
  std::vector<float> bq = random_floats(kv_heads * group * head_dim, 4);
  std::vector<float> bk = random_floats(kv_heads * head_dim, 5);
  std::vector<float> bv = random_floats(kv_heads * head_dim, 6);
  std::vector<float> q_norm = random_floats(head_dim, 7), k_norm = random_floats(head_dim, 8);
  std::vector<float> x = random_floats(tokens * k, 9), norm = random_floats(k, 10);
  std::vector<double> frequencies = inverse_frequencies(10000, rope_dim, {});

  std::vector<int64_t> positions() const {
    std::vector<int64_t> all;
    for (int64_t t = 0; t < tokens; ++t) all.push_back(past + t);
    return all;
  }

  /// Computes heads of kv_heads into `step` and returns q.
  std::vector<float> run(Device& device, Range heads, const TestKv& step) const {
    const Range queries{heads.begin * group * head_dim, heads.end * group * head_dim};
    const Range keys{heads.begin * head_dim, heads.end * head_dim};
    const auto pq = device.place(wq.source(), queries);
    const auto pk = device.place(wk.source(), keys), pv = device.place(wv.source(), keys);
    std::vector<float> cos_sin(static_cast<size_t>(tokens * rope_dim));
    fill_rope_table(positions(), frequencies, cos_sin.data());
    std::vector<float> q(static_cast<size_t>(tokens * kv_heads * group * head_dim), 7);
    device.qkv(
        {.input = {.x = x.data(), .tokens = tokens, .norm_weight = norm.data(), .norm_eps = kEps},
         .wq = pq.get(),
         .wk = pk.get(),
         .wv = pv.get(),
         .bq = bq.data(),
         .bk = bk.data(),
         .bv = bv.data(),
         .q_norm = with_norm ? q_norm.data() : nullptr,
         .k_norm = with_norm ? k_norm.data() : nullptr,
         .kv_heads = heads,
         .group = group,
         .head_dim = head_dim,
         .rope_dim = rope_dim,
         .rope_order = order,
         .cos_sin = cos_sin.data(),
         .past = past,
         .q = q.data(),
         .q_stride = kv_heads * group * head_dim,
         .step = step.view()});
    return q;
  }

  Matrix exact(const TestMatrix& w, std::span<const float> bias, std::span<const float> head_norm,
               bool rotated) const {
    const Matrix input =
        reference::rms_norm(reference::from_floats(x.data(), tokens, k), norm, kEps);
    Matrix y = reference::linear(input, w.exact, bias);
    if (with_norm && !head_norm.empty()) y = reference::rms_norm(y, head_norm, kEps);
    if (rotated) reference::rope(y, head_dim, order, positions(), frequencies);
    return y;
  }

  /// Keys or values of the step buffer: [tokens x kv_heads * head_dim].
  Matrix stored(const TestKv& step, bool keys) const {
    Matrix rows(tokens, kv_heads * head_dim);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t c = 0; c < rows.cols(); ++c) {
        const int64_t row = past % 16 + t, head = c / head_dim, d = c % head_dim;
        rows(t, c) = keys ? step.key(head, row, d) : step.value(head, row, d);
      }
    return rows;
  }
};

std::vector<float> to_floats(const Matrix& m) {
  return std::vector<float>(m.data(), m.data() + m.size());
}

/// Error of a stored element over the largest one: f16 rounds by 2^-11, bf16 by 2^-8, q8_0 by half
/// of 1 / 127.
double kv_tolerance(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 2e-5;
    case DType::kBF16:
    case DType::kQ8_0:
      return 5e-3;
    default:
      return 1e-3;
  }
}

void check_qkv(const KernelSet& set, const QkvCase& test, DType kv_dtype) {
  const TestUnit unit(set, 2);
  const TestKv step(*unit, kv_dtype, {0, 2}, {0, 48}, test.head_dim);
  const std::vector<float> q = test.run(*unit, {0, 2}, step);
  const double kept = kv_tolerance(kv_dtype);
  check_near(q, test.exact(test.wq, test.bq, test.q_norm, true), 2e-5);
  check_near(to_floats(test.stored(step, true)), test.exact(test.wk, test.bk, test.k_norm, true),
             kept);
  check_near(to_floats(test.stored(step, false)), test.exact(test.wv, test.bv, {}, false), kept);
}

}  // namespace

TEST_CASE("a unit's linear is the reference's, written or added, for every dtype") {
  for (const KernelSet* set : kernel_sets()) {
    const TestUnit unit(*set, 2);
    for (const DTypeInfo& d : kCommonDTypes) {
      for (const bool add : {false, true}) {
        CAPTURE(set->name);
        CAPTURE(d.name);
        const LinearCase test(d.dtype);
        const auto y = test.linear(*unit, {0, 100}, {0, 100}, add);
        const Matrix product = reference::linear(test.normed(), test.weights.exact);
        check_near(y, product.array() + (add ? 1.0 : 0.0), linear_tolerance(*set, d.dtype));
      }
    }
  }
}

TEST_CASE("a unit's gate and up are the reference's SwiGLU for every dtype") {
  for (const KernelSet* set : kernel_sets()) {
    const TestUnit unit(*set, 2);
    for (const DTypeInfo& d : kCommonDTypes) {
      CAPTURE(set->name);
      CAPTURE(d.name);
      const LinearCase test(d.dtype);
      const Matrix gate = reference::linear(test.normed(), test.weights.exact);
      const Matrix up = reference::linear(test.normed(), test.up.exact);
      // A product of two results: twice the error.
      check_near(test.gate_up(*unit, {0, 100}), reference::swiglu(gate, up),
                 2 * linear_tolerance(*set, d.dtype));
    }
  }
}

TEST_CASE("columns of a linear and of gate and up are the same bits computed alone") {
  for (const KernelSet* set : kernel_sets()) {
    const TestUnit unit(*set, 2);
    for (const DTypeInfo& d : kCommonDTypes) {
      CAPTURE(set->name);
      CAPTURE(d.name);
      const LinearCase test(d.dtype);
      const auto whole = test.linear(*unit, {0, 100}, {0, 100}, false);
      const auto hidden = test.gate_up(*unit, {0, 100});
      for (const Range columns : {Range{0, 16}, Range{16, 96}, Range{80, 100}, Range{96, 100}}) {
        const auto resident_alone = test.linear(*unit, columns, columns, false);
        CHECK(wrong_columns(resident_alone, whole, columns, 100, 1) == 0);
        const auto of_all = test.linear(*unit, {0, 100}, columns, false);
        CHECK(wrong_columns(of_all, whole, columns, 100, 1) == 0);
        CHECK(wrong_columns(test.gate_up(*unit, columns), hidden, columns, 100, 1) == 0);
      }
    }
  }
}

TEST_CASE("results are the same bits for teams of one, two and three") {
  for (const KernelSet* set : kernel_sets()) {
    for (const DTypeInfo& d : kCommonDTypes) {
      CAPTURE(set->name);
      CAPTURE(d.name);
      const LinearCase test(d.dtype);
      std::optional<std::vector<float>> linear, gate_up;
      for (const int workers : {1, 2, 3}) {
        const TestUnit unit(*set, workers);
        const auto y = test.linear(*unit, {0, 100}, {0, 100}, true);
        const auto h = test.gate_up(*unit, {0, 100});
        if (linear) CHECK(differing(y, *linear) == 0);
        if (gate_up) CHECK(differing(h, *gate_up) == 0);
        linear = y;
        gate_up = h;
      }
    }
  }
}

TEST_CASE("a token's result is the same bits however many share the step") {
  for (const KernelSet* set : kernel_sets()) {
    const TestUnit unit(*set, 1);
    for (const DTypeInfo& d : kCommonDTypes) {
      CAPTURE(set->name);
      CAPTURE(d.name);
      const LinearCase all(d.dtype, 69);
      auto whole = all.linear(*unit, {0, 100}, {0, 100}, false);
      for (const int64_t tokens : {1, 2, 7, 16, 17}) {
        const auto part = LinearCase(d.dtype, tokens).linear(*unit, {0, 100}, {0, 100}, false);
        CHECK(std::equal(part.begin(), part.end(), whole.begin()));
      }
    }
  }
}

TEST_CASE("queries, keys and values are the reference's with bias, norm and both orders of RoPE") {
  for (const KernelSet* set : kernel_sets()) {
    for (const RopeOrder order : {RopeOrder::kNormal, RopeOrder::kNeox}) {
      for (const int64_t head_dim : {20, 32}) {
        CAPTURE(set->name);
        CAPTURE(head_dim);
        const bool neox = order == RopeOrder::kNeox;
        CAPTURE(neox);
        check_qkv(*set, {head_dim, head_dim, order, neox}, DType::kF32);
        check_qkv(*set, {head_dim, 16, order, !neox}, DType::kF16);  // a part of the head rotated
        check_qkv(*set, {head_dim, 16, order, !neox}, DType::kBF16);
        if (head_dim == 32) check_qkv(*set, {head_dim, 32, order, neox}, DType::kQ8_0);
      }
    }
  }
}

TEST_CASE("heads are the same bits computed alone, and the others are left as they were") {
  for (const KernelSet* set : kernel_sets()) {
    CAPTURE(set->name);
    const TestUnit unit(*set, 3);
    const QkvCase test{20, 20, RopeOrder::kNormal, true};
    const TestKv both(*unit, DType::kF16, {0, 2}, {0, 48}, 20),
        second(*unit, DType::kF16, {1, 2}, {0, 48}, 20);
    const std::vector<float> whole = test.run(*unit, {0, 2}, both);
    const std::vector<float> part = test.run(*unit, {1, 2}, second);
    CHECK(wrong_columns(part, whole, {3 * 20, 6 * 20}, 6 * 20, 7) == 0);
    int wrong = 0;
    for (int64_t row = 0; row < 48; ++row)
      for (int64_t d = 0; d < 20; ++d)
        wrong += both.key(1, row, d) != second.key(1, row, d) ||
                 both.value(1, row, d) != second.value(1, row, d);
    CHECK(wrong == 0);
  }
}

TEST_CASE("an embedding is the row that the file stores") {
  const TestUnit unit(*kernel_sets().front(), 2);
  for (const DTypeInfo& d : kCommonDTypes) {
    CAPTURE(d.name);
    const TestMatrix table = make_matrix(d.dtype, 50, 64, 1);
    std::vector<int32_t> ids;
    for (int32_t t = 0; t < 20; ++t) ids.push_back(t * 7 % 50);
    std::vector<float> x(20 * 64);
    unit->embed({.table = table.source(), .token_ids = ids, .x = x.data()});
    CHECK(reference::from_floats(x.data(), 20, 64) == reference::embed(table.source(), ids));
  }
}

TEST_CASE("a unit's argmax takes the lowest of equal indices") {
  const TestUnit unit(*kernel_sets().front(), 2);
  std::vector<float> logits = random_floats(1000, 1);
  logits[321] = logits[700] = 100;
  int32_t index = -1;
  unit->argmax({.values = logits.data(), .n = 1000, .index = &index});
  CHECK(index == 321);
}

TEST_CASE("placed memory is what the packed columns need") {
  const TestUnit unit(*kernel_sets().front());
  const TestMatrix matrix = make_matrix(DType::kQ8_0, 100, 64, 1);
  const auto placed = unit->place(matrix.source(), {16, 100});
  CHECK(placed->resident == Range{16, 100});
  CHECK(placed->columns == 100);
  CHECK(placed->k == 64);
  CHECK(placed->bytes == 6 * panel_bytes(DType::kQ8_0, 64));  // 84 columns are 6 panels
}

TEST_CASE("a unit without cores is refused") {
  CHECK_THROWS_AS(open_cpu_device({.cores = {}, .isa = "generic"}), Error);
}
