// A CPU unit's team changes no bit: its inputs, pieces and heads are whoever's.
#include <doctest/doctest.h>

#include <utility>

#include "test_device.h"

using namespace tandem;

namespace {

/// Few enough tokens that every worker prepares them, one set's tokens at once, and more.
constexpr int64_t kSteps[] = {1, 2, 3, 16, 69};
constexpr int kTeams[] = {2, 3, 5};

/// More columns than one piece of one token, with a ragged end.
constexpr int64_t kManyColumns = 4500, kWidth = 64;

std::vector<float> linear(Device& device, const PlacedMatrix* weights, int64_t tokens) {
  const std::vector<float> x = random_floats(tokens * kWidth, 2), norm = random_floats(kWidth, 3);
  std::vector<float> y(static_cast<size_t>(tokens * kManyColumns), 1);
  device.linear({.input = {.x = x.data(), .tokens = tokens, .norm_weight = norm.data()},
                 .weights = weights,
                 .columns = {0, kManyColumns},
                 .y = y.data(),
                 .y_stride = kManyColumns,
                 .add = true});
  return y;
}

std::vector<float> gate_up(Device& device, const PlacedMatrix* gate, const PlacedMatrix* up,
                           int64_t tokens) {
  const std::vector<float> x = random_floats(tokens * kWidth, 2);
  std::vector<float> h(static_cast<size_t>(tokens * kManyColumns));
  device.gate_up({.input = {.x = x.data(), .tokens = tokens},
                  .gate = gate,
                  .up = up,
                  .columns = {0, kManyColumns},
                  .h = h.data(),
                  .h_stride = kManyColumns});
  return h;
}

/// q, then all keys and values of the step, of kv heads with `group` query heads each.
std::vector<float> qkv(const KernelSet& set, int workers, int64_t kv_heads, int64_t group,
                       int64_t tokens) {
  constexpr int64_t d = 20;
  const TestUnit unit(set, workers);
  const auto place = [&](int64_t heads, uint64_t seed) {
    const TestMatrix all = make_matrix(DType::kF32, heads * d, kWidth, seed, Values::kRandom, d);
    return unit->place(all.source(), {0, heads * d});
  };
  const auto wq = place(kv_heads * group, 1), wk = place(kv_heads, 2), wv = place(kv_heads, 3);
  const std::vector<float> x = random_floats(tokens * kWidth, 4);
  const std::vector<float> cos_sin = random_floats(tokens * d, 5);
  const int64_t rows = round_up(tokens, 16);
  const TestKv step(*unit, DType::kF32, {0, kv_heads}, {0, rows}, d);
  std::vector<float> out(static_cast<size_t>(tokens * kv_heads * group * d));
  unit->qkv({.input = {.x = x.data(), .tokens = tokens},
             .wq = wq.get(),
             .wk = wk.get(),
             .wv = wv.get(),
             .kv_heads = {0, kv_heads},
             .group = group,
             .head_dim = d,
             .rope_dim = d,
             .cos_sin = cos_sin.data(),
             .past = 0,
             .q = out.data(),
             .q_stride = kv_heads * group * d,
             .step = step.view()});
  for (int64_t head = 0; head < kv_heads; ++head)
    for (int64_t row = 0; row < tokens; ++row)
      for (int64_t i = 0; i < d; ++i) {
        out.push_back(static_cast<float>(step.key(head, row, i)));
        out.push_back(static_cast<float>(step.value(head, row, i)));
      }
  return out;
}

}  // namespace

TEST_CASE("columns are the same bits for a team of any size and any number of tokens") {
  for (const KernelSet* set : kernel_sets()) {
    CAPTURE(set->name);
    const TestMatrix one = make_matrix(DType::kQ8_0, kManyColumns, kWidth, 1);
    const TestMatrix other = make_matrix(DType::kBF16, kManyColumns, kWidth, 6);
    for (const int64_t tokens : kSteps) {
      CAPTURE(tokens);
      const auto of_team = [&](int workers) {
        const TestUnit unit(*set, workers);
        const auto a = unit->place(one.source(), {0, kManyColumns});
        const auto b = unit->place(other.source(), {0, kManyColumns});
        return std::pair(linear(*unit, a.get(), tokens), gate_up(*unit, a.get(), b.get(), tokens));
      };
      const auto [y, h] = of_team(1);
      for (const int workers : kTeams) {
        CAPTURE(workers);
        const auto [columns, hidden] = of_team(workers);
        CHECK(differing(columns, y) == 0);
        CHECK(differing(hidden, h) == 0);
      }
    }
  }
}

TEST_CASE("heads are the same bits for a team of any size and any number of tokens") {
  for (const KernelSet* set : kernel_sets()) {
    CAPTURE(set->name);
    for (const auto& [kv_heads, group] : {std::pair<int64_t, int64_t>{1, 3}, {5, 1}, {8, 4}}) {
      for (const int64_t tokens : kSteps) {
        CAPTURE(kv_heads);
        CAPTURE(tokens);
        const std::vector<float> alone = qkv(*set, 1, kv_heads, group, tokens);
        for (const int workers : kTeams)
          CHECK(differing(qkv(*set, workers, kv_heads, group, tokens), alone) == 0);
      }
    }
  }
}
