// Probes of the small stages: embed, merge, commit, argmax, and the fork and join of a team.
#include <array>
#include <memory>

#include "kernels/team.h"
#include "profiles/probe_bench.h"
#include "profiles/walk.h"

namespace tandem {
namespace {

constexpr int64_t kKvHeads = 4;
constexpr int64_t kGroup = 8;
constexpr int64_t kHeadDim = 64;
using Rows = std::vector<int64_t>;

void add_case(UnitBench& bench, const char* stage, Curve& curve, size_t point,
              std::function<void()> work, std::vector<Case>& cases) {
  cases.push_back({.what = bench.profile->unit.name + " " + stage,
                   .run = [&bench, work](int repetitions) { return bench.time(work, repetitions); },
                   .figure = &curve.points[point].y});
}

/// The same for a stage that every unit's driver does on the host.
void add_host_case(UnitBench& bench, const char* stage, Curve& curve, size_t point,
                   std::function<void()> work, std::vector<Case>& cases) {
  cases.push_back(
      {.what = bench.profile->unit.name + " " + stage,
       .run = [&bench, work](int repetitions) { return bench.time_on_host(work, repetitions); },
       .figure = &curve.points[point].y});
}

/// Two states per head, as where a head is cut in two. The input holds them; its values are finite.
struct MergeWork {
  const UnitBench* bench;
  int64_t tokens;
  bool publish;

  void operator()() const {
    const std::array<const float*, 2> states{bench->in(), bench->in() + kBenchFloats / 2};
    bench->device->merge({.tokens = tokens,
                          .kv_heads = {0, kKvHeads},
                          .group = kGroup,
                          .head_dim = kHeadDim,
                          .states = states,
                          .out = bench->out(),
                          .q_stride = kKvHeads * kGroup * kHeadDim,
                          .publish = publish});
  }
};

void add_merge_cases(UnitBench& bench, const Rows& rows, std::vector<Case>& cases) {
  Curve& curve = bench.profile->merge;
  for (const int64_t tokens : rows)
    curve.points.push_back(
        {static_cast<double>(2 * tokens * kKvHeads * kGroup * (kHeadDim + 2)), {}});
  for (size_t i = 0; i < rows.size(); ++i)
    add_case(bench, "merge", curve, i, MergeWork{&bench, rows[i], !copies_results(bench)}, cases);
}

/// What a merge that publishes takes beyond one that does not.
double publish_s(UnitBench& bench, int64_t tokens) {
  const int calls = tokens < 32 ? static_cast<int>(32 / tokens) : 1;
  const double published = bench.time(MergeWork{&bench, tokens, true}, calls);
  const double kept = bench.time(MergeWork{&bench, tokens, false}, calls);
  return excess_s(published, kept);
}

void add_publish_cases(UnitBench& bench, const Rows& rows, std::vector<Case>& cases) {
  Curve& curve = bench.profile->publish;
  for (const int64_t tokens : rows)
    curve.points.push_back(
        {static_cast<double>(tokens * kKvHeads * kGroup * kHeadDim) * sizeof(float), {}});
  for (size_t i = 0; i < rows.size(); ++i)
    cases.push_back({.what = bench.profile->unit.name + " publish",
                     .run = [&bench, tokens = rows[i]](int) { return publish_s(bench, tokens); },
                     .figure = &curve.points[i].y,
                     .repeats = false});
}

/// Rows of token embeddings, each elsewhere in a table that lies in memory (the KV values, taken as
/// f16 rows).
struct EmbedWork {
  const UnitBench* bench;
  std::vector<int32_t> ids;
  uint32_t last = 0;

  void operator()() {
    const MatrixSource table{.dtype = DType::kF16,
                             .columns = bench->memory->kv_bytes / row_bytes(DType::kF16, kBenchK),
                             .k = kBenchK,
                             .rows = bench->memory->table.get()};
    for (int32_t& id : ids) {
      last = last * 1664525 + 1013904223;  // (Press et al. 1992, Numerical Recipes, sec. 7.1)
      id = static_cast<int32_t>((last >> 8) % static_cast<uint32_t>(table.columns));
    }
    bench->device->embed({.table = table, .token_ids = ids, .x = bench->out()});
  }
};

void add_embed_cases(UnitBench& bench, const Rows& rows, std::vector<Case>& cases) {
  Curve& curve = bench.profile->embed;
  for (const int64_t tokens : rows)
    curve.points.push_back({static_cast<double>(tokens * kBenchK), {}});
  for (size_t i = 0; i < rows.size(); ++i)
    add_host_case(bench, "embed", curve, i,
                  EmbedWork{&bench, std::vector<int32_t>(static_cast<size_t>(rows[i]))}, cases);
}

/// Rows for the caches of several layers; with every call the caches lie further on in memory.
struct CommitWork {
  static constexpr size_t kMostLayers = 16;

  const UnitBench* bench;
  size_t layers;
  int64_t rows;
  std::shared_ptr<Walk> walk;  ///< in bytes

  static KvView view(std::byte* memory) {
    KvView kv{.kv_heads = {0, kKvHeads}, .positions = {0, 512}, .head_dim = kHeadDim};
    kv.k = memory;
    kv.v = kv.k + kKvHeads * kv.k_head_bytes();
    return kv;
  }

  void operator()() {
    const KvView one = view(bench->exchanged->step.data());
    const int64_t bytes = kKvHeads * (one.k_head_bytes() + one.v_head_bytes());
    std::array<CommitCache, kMostLayers> caches;
    for (size_t layer = 0; layer < layers; ++layer) {
      const int64_t next = walk->next(bytes, bench->memory->kv_bytes);
      std::byte* step = bench->exchanged->step.data() + static_cast<int64_t>(layer) * bytes;
      caches[layer] = {view(step), view(bench->memory->kv.get() + next)};
    }
    bench->device->commit({.caches = std::span(caches).first(layers),
                           .rows = bench->exchanged->rows.first(static_cast<size_t>(rows)),
                           .first_position = 0});
  }
};

void add_commit_cases(UnitBench& bench, const Rows& rows, std::vector<Case>& cases) {
  Curve& curve = bench.profile->commit;
  // One row of one layer, since models may be small; then of many layers.
  const auto walk = std::make_shared<Walk>();
  std::vector<CommitWork> works{{&bench, 1, 1, walk}};
  for (const int64_t tokens : rows)
    works.push_back({&bench, CommitWork::kMostLayers, tokens, walk});
  for (const CommitWork& work : works)
    curve.points.push_back({static_cast<double>(work.layers) *
                                static_cast<double>(work.rows * kKvHeads * kHeadDim * 2 * 2),
                            {}});
  for (size_t i = 0; i < works.size(); ++i) add_case(bench, "commit", curve, i, works[i], cases);
}

void add_argmax_cases(UnitBench& bench, std::vector<Case>& cases) {
  constexpr std::array<int64_t, 3> kValues{1024, 32768, 131072};
  Curve& curve = bench.profile->argmax;
  for (const int64_t n : kValues) curve.points.push_back({static_cast<double>(n), {}});
  for (size_t i = 0; i < kValues.size(); ++i)
    add_case(
        bench, "argmax", curve, i,
        [&bench, n = kValues[i]] {
          bench.device->argmax(
              {.values = bench.in(), .n = n, .index = bench.exchanged->index.data()});
        },
        cases);
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

/// What each further call in a step costs a unit that enqueues, recorded and not: the smallest copy
/// of a result, or where there is nothing to copy the smallest kernel.
void add_launch_cases(UnitBench& bench, std::vector<Case>& cases) {
  const Block one{.data = reinterpret_cast<std::byte*>(bench.exchanged->stamps.data()),
                  .rows = 1,
                  .bytes = 8,
                  .stride = 8};
  const auto work = [&bench, one] {
    if (copies_results(bench)) {
      bench.device->receive(one);
    } else {
      bench.device->stamp(&bench.exchanged->stamps[2]);
    }
  };
  cases.push_back({.what = bench.profile->unit.name + " launch",
                   .run = [&bench, work](int repetitions) { return bench.time(work, repetitions); },
                   .figure = &bench.profile->barrier_s});
  cases.push_back(
      {.what = bench.profile->unit.name + " plain launch",
       .run = [&bench, work](int repetitions) { return bench.time_plain(work, repetitions); },
       .figure = &bench.profile->plain_launch_s});
}

}  // namespace

void add_small_cases(UnitBench& bench, const Grid& grid, std::vector<Case>& cases) {
  add_embed_cases(bench, grid.rows, cases);
  add_merge_cases(bench, grid.rows, cases);
  if (copies_results(bench)) add_publish_cases(bench, grid.rows, cases);
  add_commit_cases(bench, grid.rows, cases);
  add_argmax_cases(bench, cases);
  if (bench.device->enqueues())
    add_launch_cases(bench, cases);
  else
    add_barrier_case(bench, cases);
}

}  // namespace tandem
