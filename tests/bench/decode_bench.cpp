#include "bench/decode_bench.h"

#include <cstring>
#include <utility>

#include "bench/bench_machine.h"
#include "kernels/memory.h"
#include "profiles/measure.h"
#include "runtime/executor.h"
#include "tuner/legal_plans.h"
#include "tuner/model_source.h"

namespace tandem {
namespace {

std::vector<Unit> units_of(const std::vector<int>& cores, bool split) {
  if (!split) return {whole_unit(cores)};
  std::vector<Unit> units;
  for (int core : cores)
    units.push_back({.name = "cpu" + std::to_string(units.size()),
                     .kind = UnitKind::kCpu,
                     .cores = {core},
                     .isa = "",
                     .memory = "dram0"});
  return units;
}

std::unique_ptr<Executor> open(const Model& model, const std::vector<Unit>& units) {
  std::vector<std::string> names;
  for (const Unit& unit : units) names.push_back(unit.name);
  return std::make_unique<Executor>(model, even_plan(model.spec, names), units,
                                    ExecutorOptions{.max_context = 256,
                                                    .max_tokens = 1,
                                                    .max_logits_rows = 1,
                                                    .release_source = true,
                                                    .progress = {}});
}

/// Median seconds of a few decode steps from an empty cache.
double decode_step_s(Executor& executor) {
  executor.set_context(0);
  std::vector<double> steps;
  for (int i = 0; i < 12; ++i) {
    const int32_t token = 17 + i;
    const double s =
        executor.run({.tokens = 1, .context = executor.context(), .parents = {}}, {&token, 1})
            .makespan_s;
    if (i >= 2) steps.push_back(s);
  }
  return figure_of(std::move(steps)).median;
}

}  // namespace

DecodeRow bench_decode(const std::string& shape, DType dtype, const std::vector<int>& cores,
                       int rounds) {
  constexpr int64_t kReadBytes = int64_t{512} << 20;
  const auto memory = map_memory(kReadBytes);
  std::memset(memory.get(), 1, static_cast<size_t>(kReadBytes));
  const Model model = open_model({.model = shape, .dtype = dtype, .seed = 1});
  const auto one = open(model, units_of(cores, false));
  const auto split = open(model, units_of(cores, true));
  const auto bytes = static_cast<double>(weight_bytes_per_token(model.spec));
  std::vector<double> dram, one_rate, share, split_over_one;
  for (int round = 0; round < rounds; ++round) {
    const double read = read_all(cores, memory.get(), kReadBytes);
    const double one_s = decode_step_s(*one);
    const double split_s = decode_step_s(*split);
    dram.push_back((read + read_all(cores, memory.get(), kReadBytes)) / 2);
    one_rate.push_back(bytes / one_s);
    share.push_back(one_rate.back() / dram.back());
    split_over_one.push_back(one_s / split_s);
  }
  return {.dtype = dtype,
          .dram_read_per_s = figure_of(dram).median,
          .one_unit_per_s = figure_of(one_rate).median,
          .one_unit_tokens_per_s = figure_of(one_rate).median / bytes,
          .share = figure_of(share).median,
          .share_spread = figure_of(share).spread,
          .split_over_one = figure_of(split_over_one).median};
}

}  // namespace tandem
