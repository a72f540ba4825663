#include <doctest/doctest.h>

#include <cmath>

#include "cuda_attention_problem.h"

using namespace tandem;
using reference::Matrix;
using Problem = CudaAttentionProblem;

TEST_CASE("a CUDA unit appends rows until the first negative one, other homes' are skipped") {
  for (const DType dtype : kKvFormats) {
    CAPTURE(name(dtype));
    const int64_t d = has_format(20, dtype) ? 20 : 64;
    const Problem problem({24, 505, d});
    const AttentionProblem in_cache = problem.kept(dtype);
    DeviceKv step = problem.step(dtype), cache = problem.cache(dtype, {256, 512}, {0, 2});
    // Positions 505 to 511, then 512, which is not here; or fewer.
    for (const size_t kept : {size_t{8}, size_t{3}, size_t{0}}) {
      CAPTURE(kept);
      std::vector<int32_t> rows{0, 2, 5, 6, 7, 20, 21, 23, 1};
      rows[kept] = -1;
      cache = problem.cache(dtype, {256, 512}, {0, 2});
      const DeviceArray<int32_t> rows_there(rows);
      const DeviceArray<int64_t> first_position(std::vector<int64_t>{505});
      const CommitCache to{step.view(), cache.view()};
      cuda::commit({.args = {.caches = {&to, 1},
                             .rows = {rows_there.get(), rows.size()},
                             .first_position = 0},
                    .first_position = {.at = first_position.get()}},
                   nullptr);
      cache.download();
      int wrong = 0;
      for (int64_t position = 256; position < 512; ++position) {
        const bool old = position < 505;
        const bool empty = position >= 505 + static_cast<int64_t>(kept);
        const int64_t row = old || empty ? position : rows[static_cast<size_t>(position - 505)];
        const Matrix& keys = old ? in_cache.cached_keys : in_cache.new_keys;
        const Matrix& values = old ? in_cache.cached_values : in_cache.new_values;
        for (int64_t c = 0; c < 2 * d; ++c) {
          const double key = cache.key(c / d, position - 256, c % d);
          const double value = cache.value(c / d, position - 256, c % d);
          wrong += empty ? !std::isnan(key) : key != keys(row, c);
          wrong += empty ? !std::isnan(value) : value != values(row, c);
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a CUDA unit appends a long step, and only the heads that both have") {
  const Problem problem({40, 250, 16, 3, 1});
  DeviceKv step(DType::kF16, {1, 3}, {0, 64}, 16);  // heads 1, 2 of 0, 1, 2
  for (int64_t t = 0; t < 40; ++t) step.put(250 % 16 + t, problem.new_keys, problem.new_values, t);
  step.upload();
  DeviceKv cache(DType::kF16, {0, 2}, {0, 512}, 16);  // heads 0, 1
  std::vector<int32_t> rows(40);
  for (int32_t i = 0; i < 40; ++i) rows[static_cast<size_t>(i)] = i;
  const DeviceArray<int32_t> rows_there(rows);
  const CommitCache to{step.view(), cache.view()};
  cuda::commit({.args = {.caches = {&to, 1}, .rows = {rows_there.get(), 40}, .first_position = 250},
                .first_position = {.fixed = 250}},
               nullptr);
  cache.download();
  int wrong = 0;
  for (int64_t position = 0; position < 512; ++position)
    for (int64_t d = 0; d < 16; ++d) {
      const bool there = position >= 250 && position < 290;
      const double key = cache.key(1, position, d), value = cache.value(1, position, d);
      wrong += there ? key != problem.new_keys(position - 250, 16 + d) : !std::isnan(key);
      wrong += there ? value != problem.new_values(position - 250, 16 + d) : !std::isnan(value);
      wrong += !std::isnan(cache.key(0, position, d)) + !std::isnan(cache.value(0, position, d));
    }
  CHECK(wrong == 0);
}

TEST_CASE("a CUDA unit appends to more caches than one launch takes, each of its own heads") {
  const Problem problem({40, 250, 16, 3, 1});
  DeviceKv step(DType::kF16, {0, 3}, {0, 64}, 16);
  step.put(250 % 16, problem.new_keys, problem.new_values, 0);
  step.upload();
  std::vector<DeviceKv> caches;
  std::vector<CommitCache> to;
  for (int i = 0; i < 50; ++i) caches.emplace_back(DType::kF16, Range{i % 3, 3}, Range{0, 512}, 16);
  for (DeviceKv& cache : caches) to.push_back({step.view(), cache.view()});
  const DeviceArray<int32_t> rows_there(std::vector<int32_t>{0});
  cuda::commit({.args = {.caches = to, .rows = {rows_there.get(), 1}, .first_position = 250},
                .first_position = {.fixed = 250}},
               nullptr);
  int wrong = 0;
  for (int i = 0; i < 50; ++i) {
    DeviceKv& cache = caches[static_cast<size_t>(i)];
    cache.download();
    for (int64_t head = i % 3; head < 3; ++head)
      for (int64_t d = 0; d < 16; ++d) {
        wrong += cache.key(head, 250, d) != problem.new_keys(0, 16 * head + d);
        wrong += cache.value(head, 250, d) != problem.new_values(0, 16 * head + d);
        wrong += !std::isnan(cache.key(head, 251, d)) + !std::isnan(cache.value(head, 249, d));
      }
  }
  CHECK(wrong == 0);
}
