#include "bench/step_bench.h"

#include <cstring>
#include <memory>
#include <numeric>

#include "bench/bench_machine.h"
#include "kernels/memory.h"
#include "profiles/measure.h"
#include "runtime/executor.h"
#include "tuner/legal_plans.h"
#include "tuner/model_source.h"

namespace tandem {
namespace {

constexpr int64_t kReadBytes = int64_t{512} << 20;
/// A step as wide as verification is; a wider one is prefill.
constexpr int64_t kWidestStep = 16;

/// Seconds of one step at context 0, every row's logits or the last one's.
double step_s(Executor& executor, int64_t tokens) {
  executor.set_context(0);
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  std::iota(ids.begin(), ids.end(), 17);
  const int64_t rows = tokens > kWidestStep ? 1 : tokens;
  return executor.run({.tokens = tokens, .context = 0, .logits_rows = rows, .parents = {}}, ids)
      .makespan_s;
}

/// 2 a weight and token; a prefill's head is asked for one row.
double operations_of(const ModelSpec& model, int64_t tokens) {
  const auto head = static_cast<double>(model.vocab_size * model.hidden_size);
  const int64_t columns = model.num_kv_heads * model.qkv_columns_per_kv_head() + model.q_size() +
                          3 * model.intermediate_size;
  const auto layers = static_cast<double>(model.num_layers * columns * model.hidden_size);
  const auto rows = static_cast<double>(tokens > kWidestStep ? 1 : tokens);
  return 2 * (layers * static_cast<double>(tokens) + head * rows);
}

/// One value per round.
struct Series {
  std::vector<double> seconds, over_one, of_memory, of_arithmetic;
};

}  // namespace

StepTable bench_steps(const std::string& shape, DType dtype, const std::vector<int>& cores,
                      const std::vector<int64_t>& widths, int rounds) {
  const auto memory = map_memory(kReadBytes);
  std::memset(memory.get(), 1, static_cast<size_t>(kReadBytes));
  const Model model = open_model({.model = shape, .dtype = dtype, .seed = 1});
  Executor executor(model, even_plan(model.spec, {"cpu0"}), {whole_unit(cores)},
                    {.max_context = widths.back() + 16,
                     .max_tokens = widths.back(),
                     .max_logits_rows = kWidestStep,
                     .release_source = true,
                     .progress = {}});
  const auto bytes = static_cast<double>(weight_bytes_per_token(model.spec));
  const ActivationFormat format = kernel_set("").format(dtype);
  std::vector<Series> series(widths.size());
  std::vector<double> dram, peak;
  for (int round = 0; round < rounds; ++round) {
    dram.push_back(read_all(cores, memory.get(), kReadBytes));
    peak.push_back(peak_of_all(cores, format));
    for (size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] <= kWidestStep) step_s(executor, widths[i]);  // finds its buffers elsewhere
      const double seconds = step_s(executor, widths[i]);
      series[i].seconds.push_back(seconds);
      series[i].over_one.push_back(seconds / series[0].seconds.back());
      series[i].of_memory.push_back(bytes / seconds / dram.back());
      series[i].of_arithmetic.push_back(operations_of(model.spec, widths[i]) / seconds /
                                        peak.back());
    }
  }
  StepTable table{figure_of(dram).median, figure_of(peak).median, {}};
  for (size_t i = 0; i < widths.size(); ++i)
    table.rows.push_back({.tokens = widths[i],
                          .seconds = figure_of(series[i].seconds).median,
                          .spread = figure_of(series[i].seconds).spread,
                          .over_one = figure_of(series[i].over_one).median,
                          .of_memory = figure_of(series[i].of_memory).median,
                          .of_arithmetic = figure_of(series[i].of_arithmetic).median});
  return table;
}

}  // namespace tandem
