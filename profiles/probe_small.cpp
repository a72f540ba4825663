// Probes of the small stages: merge, commit, argmax, and the fork and join of a team.
#include <array>
#include <numeric>

#include "kernels/team.h"
#include "profiles/probe_bench.h"

namespace tandem {
namespace {

constexpr int64_t kKvHeads = 4;
constexpr int64_t kGroup = 8;
constexpr int64_t kHeadDim = 64;
constexpr std::array<int64_t, 3> kRows{1, 16, 256};

void add_case(UnitBench& bench, const char* stage, Curve& curve, size_t point,
              std::function<void()> work, std::vector<Case>& cases) {
  cases.push_back({.what = bench.profile->unit.name + " " + stage,
                   .run = [&bench, work](int repetitions) { return bench.time(work, repetitions); },
                   .figure = &curve.points[point].y});
}

/// Two states per head, as where a head is cut in two. The input holds them; its values are finite.
void add_merge_cases(UnitBench& bench, std::vector<Case>& cases) {
  Curve& curve = bench.profile->merge;
  for (const int64_t tokens : kRows)
    curve.points.push_back(
        {static_cast<double>(2 * tokens * kKvHeads * kGroup * (kHeadDim + 2)), {}});
  for (size_t i = 0; i < kRows.size(); ++i)
    add_case(
        bench, "merge", curve, i,
        [&bench, tokens = kRows[i]] {
          const std::array<const float*, 2> states{bench.in(), bench.in() + kBenchFloats / 2};
          bench.device->merge({.tokens = tokens,
                               .kv_heads = {0, kKvHeads},
                               .group = kGroup,
                               .head_dim = kHeadDim,
                               .states = states,
                               .out = bench.out(),
                               .q_stride = kKvHeads * kGroup * kHeadDim});
        },
        cases);
}

void add_commit_cases(UnitBench& bench, std::vector<Case>& cases) {
  Curve& curve = bench.profile->commit;
  for (const int64_t rows : kRows)
    curve.points.push_back({static_cast<double>(rows * kKvHeads * kHeadDim * 2 * 2), {}});
  for (size_t i = 0; i < kRows.size(); ++i) {
    std::vector<int32_t> rows(static_cast<size_t>(kRows[i]));
    std::iota(rows.begin(), rows.end(), 0);
    add_case(
        bench, "commit", curve, i,
        [&bench, rows] {
          KvView step{.kv_heads = {0, kKvHeads}, .positions = {0, 512}, .head_dim = kHeadDim};
          step.k = bench.memory->kv.get();
          step.v = step.k + kKvHeads * step.k_head_bytes();
          KvView cache = step;
          cache.k = step.v + kKvHeads * step.v_head_bytes();
          cache.v = cache.k + kKvHeads * cache.k_head_bytes();
          bench.device->commit({.step = step, .cache = cache, .rows = rows, .first_position = 0});
        },
        cases);
  }
}

void add_argmax_cases(UnitBench& bench, std::vector<Case>& cases) {
  constexpr std::array<int64_t, 3> kValues{1024, 32768, 131072};
  Curve& curve = bench.profile->argmax;
  for (const int64_t n : kValues) curve.points.push_back({static_cast<double>(n), {}});
  for (size_t i = 0; i < kValues.size(); ++i)
    add_case(
        bench, "argmax", curve, i,
        [&bench, n = kValues[i]] { bench.device->argmax(bench.in(), n); }, cases);
}

/// A team of its own: which calls of a device fork its team is the device's business.
void add_barrier_case(UnitBench& bench, std::vector<Case>& cases) {
  const Unit& unit = bench.profile->unit;
  const auto run = [&bench, team = std::make_shared<Team>(unit.cores, false)](int repetitions) {
    return bench.driver
        .start([&] {
          team->wake();
          const auto nothing = [](int) {};
          team->run(nothing);
          const double start_s = steady_now_s();
          for (int i = 0; i < repetitions; ++i) team->run(nothing);
          const double seconds = steady_now_s() - start_s;
          team->rest();
          return seconds / repetitions;
        })
        .get();
  };
  cases.push_back(
      {.what = unit.name + " barrier", .run = run, .figure = &bench.profile->barrier_s});
}

}  // namespace

void add_small_cases(UnitBench& bench, std::vector<Case>& cases) {
  add_merge_cases(bench, cases);
  add_commit_cases(bench, cases);
  add_argmax_cases(bench, cases);
  add_barrier_case(bench, cases);
}

}  // namespace tandem
