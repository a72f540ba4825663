// Probes of the linear kernels: from memory, from the cache, and the preparation of their input
// alone.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "profiles/probe_bench.h"
#include "profiles/walk.h"

namespace tandem {
namespace {

/// Columns of the list that a call of so many tokens may have, with `available` of them there. At
/// least the first.
std::vector<int64_t> columns_for(const std::vector<int64_t>& columns, int64_t tokens,
                                 int64_t available, const Grid& grid) {
  std::vector<int64_t> kept;
  for (const int64_t n : columns)
    if (kept.empty() || (n * tokens * kBenchK * 2 <= grid.max_flops && n <= available))
      kept.push_back(std::min(n, available));
  return kept;
}

Curve empty_curve(const std::vector<int64_t>& columns, DType dtype) {
  Curve curve;
  for (const int64_t n : columns)
    curve.points.push_back({static_cast<double>(n * row_bytes(dtype, kBenchK)), {}});
  return curve;
}

/// Walks over the columns of a matrix, or stays at the first ones without a walk.
struct LinearWork {
  const UnitBench* bench;
  const PlacedMatrix* weights;
  int64_t tokens;
  int64_t columns;
  std::shared_ptr<Walk> walk;

  void operator()() {
    const int64_t next = walk ? walk->next(columns, weights->columns) : 0;
    // y is addressed from column 0 on, so the part before the first column lies in front of the
    // output. The buffer is larger than any matrix has columns.
    float* y = bench->out() + (weights->columns - next);
    bench->device->linear({.input = {.x = bench->in(),
                                     .tokens = tokens,
                                     .norm_weight = bench->in(),
                                     .norm_eps = 1e-5f},
                           .weights = weights,
                           .columns = {next, next + columns},
                           .y = y,
                           .y_stride = columns,
                           .publish = !copies_results(*bench)});
  }
};

/// From memory with a walk, from the cache without.
void add_points(UnitBench& bench, LinearCurve& linear, const std::shared_ptr<Walk>& walk,
                int& next_curve, std::vector<Case>& cases) {
  Curve& curve = walk ? linear.from_dram : linear.from_cache;
  const PlacedMatrix* weights = bench.memory->weights.at(linear.dtype).get();
  for (CurvePoint& point : curve.points) {
    const auto columns = static_cast<int64_t>(point.x) / row_bytes(linear.dtype, kBenchK);
    cases.push_back(
        {.what = fmt::format("{} linear {}", bench.profile->unit.name, name(linear.dtype)),
         .run =
             [&bench, work = LinearWork{&bench, weights, linear.tokens, columns, walk}](
                 int repetitions) mutable {
               return work.walk ? bench.time_cold(std::ref(work), repetitions)
                                : bench.time(std::ref(work), repetitions);
             },
         .figure = &point.y,
         .curve = next_curve});
  }
  ++next_curve;
}

void add_prepare_points(UnitBench& bench, PrepareCurve& prepare, int& next_curve,
                        std::vector<Case>& cases) {
  for (CurvePoint& point : prepare.seconds.points) {
    const bool is_short = point.x < kBenchK;
    const PlacedMatrix* weights =
        (is_short ? bench.memory->short_weights : bench.memory->weights).at(prepare.dtype).get();
    const auto tokens = static_cast<int64_t>(point.x) / weights->k;
    cases.push_back(
        {.what = fmt::format("{} prepare {}", bench.profile->unit.name, name(prepare.dtype)),
         .run = [&bench, work = LinearWork{&bench, weights, tokens, 0, nullptr}](
                    int repetitions) mutable { return bench.time(std::ref(work), repetitions); },
         .figure = &point.y,
         .curve = next_curve});
  }
  ++next_curve;
}

/// Of as many bytes in these rows and in usual ones, one after the other. What they read lies
/// between two readings of the same.
void add_rows_case(UnitBench& bench, DType dtype, const PlacedMatrix* weights,
                   const std::shared_ptr<Walk>& walk, Figure& slowdown, std::vector<Case>& cases) {
  constexpr int64_t kColumns = 4096;
  const auto work_on = [&](const PlacedMatrix* matrix, std::shared_ptr<Walk> along) {
    const int64_t columns =
        std::min(kColumns * kBenchK / matrix->k, matrix->columns) / kColumnAlign * kColumnAlign;
    return LinearWork{&bench, matrix, 1, columns, std::move(along)};
  };
  const LinearWork usual = work_on(bench.memory->weights.at(dtype).get(), walk);
  const LinearWork other = work_on(weights, std::make_shared<Walk>());
  const auto bytes = [](const LinearWork& work) {
    return static_cast<double>(work.columns * work.weights->k);
  };
  cases.push_back(
      {.what = fmt::format("{} linear {} of rows of {}", bench.profile->unit.name, name(dtype),
                           weights->k),
       .run =
           [&bench, usual = usual, other = other, more = bytes(other) / bytes(usual)](int) mutable {
             const double usual_s = bench.time_cold(std::ref(usual), 1);
             return bench.time_cold(std::ref(other), 1) / (more * usual_s);
           },
       .figure = &slowdown,
       .repeats = false});
}

void lay_out(UnitBench& bench, const Grid& grid) {
  for (const auto& [dtype, weights] : bench.memory->weights) {
    const int64_t cached =
        std::clamp(bench.cache_bytes / row_bytes(dtype, kBenchK), kColumnAlign, weights->columns);
    PrepareCurve prepare{dtype, {{{kBenchShortK, {}}}}};
    for (const int64_t tokens : grid.tokens) {
      bench.profile->linear.push_back(
          {dtype, tokens,
           empty_curve(columns_for(grid.dram_columns, tokens, weights->columns, grid), dtype),
           empty_curve(columns_for(grid.cache_columns, tokens, cached, grid), dtype)});
      prepare.seconds.points.push_back({static_cast<double>(tokens * kBenchK), {}});
    }
    bench.profile->prepare.push_back(std::move(prepare));
    if (!bench.memory->other_weights.contains(dtype)) continue;
    RowSlowdown slowdown{dtype, {}};
    for (const int64_t k : kOtherRows) slowdown.by_k.points.push_back({static_cast<double>(k), {}});
    bench.profile->row_slowdowns.push_back(std::move(slowdown));
  }
}

}  // namespace

void add_linear_cases(UnitBench& bench, const Grid& grid, int& next_curve,
                      std::vector<Case>& cases) {
  lay_out(bench, grid);
  for (PrepareCurve& prepare : bench.profile->prepare)
    add_prepare_points(bench, prepare, next_curve, cases);
  std::map<DType, std::shared_ptr<Walk>> walks;
  for (LinearCurve& linear : bench.profile->linear) {
    const auto walk = walks.try_emplace(linear.dtype, std::make_shared<Walk>()).first->second;
    add_points(bench, linear, walk, next_curve, cases);
    add_points(bench, linear, nullptr, next_curve, cases);
  }
  for (RowSlowdown& slowdown : bench.profile->row_slowdowns)
    for (size_t i = 0; i < kOtherRows.size(); ++i)
      add_rows_case(bench, slowdown.dtype, bench.memory->other_weights.at(slowdown.dtype)[i].get(),
                    walks.at(slowdown.dtype), slowdown.by_k.points[i].y, cases);
}

void subtract_preparation(UnitProfile& profile) {
  for (LinearCurve& linear : profile.linear) {
    const auto prepare =
        std::find_if(profile.prepare.begin(), profile.prepare.end(),
                     [&](const PrepareCurve& p) { return p.dtype == linear.dtype; });
    if (prepare == profile.prepare.end()) continue;
    const double prepare_s = prepare->seconds.at(static_cast<double>(linear.tokens * kBenchK)).y;
    for (Curve* curve : {&linear.from_dram, &linear.from_cache})
      for (CurvePoint& point : curve->points)
        // The difference of two small times can come out as nothing; a tenth is left to it.
        point.y.median = std::max(point.y.median - prepare_s, 0.1 * point.y.median);
  }
}

namespace {

/// The matrix for work of no particular dtype: Q8_0 where it is measured.
const PlacedMatrix* common_weights(const UnitBench& bench) {
  const auto& weights = bench.memory->weights;
  const auto q8 = weights.find(DType::kQ8_0);
  return (q8 == weights.end() ? weights.begin() : q8)->second.get();
}

}  // namespace

std::function<int64_t()> streaming(UnitBench& bench, DType dtype, int64_t columns, double from) {
  const PlacedMatrix* matrix = bench.memory->weights.at(dtype).get();
  // A call of a GPU's would be over before it is launched.
  columns = bench.device->enqueues() ? matrix->columns : std::min(columns, matrix->columns);
  const int64_t bytes = columns * row_bytes(matrix->dtype, matrix->k);
  const auto first = static_cast<int64_t>(from * static_cast<double>(matrix->columns));
  return [bytes, work = LinearWork{.bench = &bench,
                                   .weights = matrix,
                                   .tokens = 1,
                                   .columns = columns,
                                   .walk = std::make_shared<Walk>(first / kColumnAlign *
                                                                  kColumnAlign)}]() mutable {
    work();
    return bytes;
  };
}

std::function<int64_t()> streaming_over_link(UnitBench& bench) {
  const PlacedMatrix* matrix = bench.memory->streamed.get();
  return [&bench, matrix] {
    bench.device->linear({.input = {.x = bench.in(), .tokens = 1},
                          .weights = matrix,
                          .columns = {0, matrix->columns},
                          .y = bench.out(),
                          .y_stride = matrix->columns});
    return matrix->bytes;  // packed, as they are copied
  };
}

void run_compute(const UnitBench& bench) {
  const PlacedMatrix* matrix = common_weights(bench);
  LinearWork{&bench, matrix, 64, std::min<int64_t>(256, matrix->columns), nullptr}();
}

}  // namespace tandem
