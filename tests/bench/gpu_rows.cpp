#include "tests/bench/gpu_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/error.h"
#include "profiles/pinned.h"
#include "profiles/probe.h"
#include "profiles/topology.h"
#include "runtime/executor.h"
#include "tests/bench/gpu_kernels.h"
#include "tuner/format.h"
#include "tuner/legal_plans.h"
#include "tuner/model_source.h"
#include "tuner/table.h"

namespace tandem::bench {
namespace {

/// The first GPU with its driver's core.
Unit first_gpu() {
  for (const Unit& unit : default_units(detect_machine()))
    if (unit.kind == UnitKind::kCuda) return unit;
  throw Error(why_no_cuda_device(0));
}

double profile_wall_s() {
  const Machine machine = detect_machine();
  const double start_s = steady_now_s();
  profile_machine(machine, default_units(machine), {.dtypes = {}, .progress = {}});
  return steady_now_s() - start_s;
}

/// A whole model on one GPU.
class WholeModel {
 public:
  WholeModel(const GpuSizes& sizes, const Unit& gpu)
      : model_(sizes.model()),
        executor_(model_, single_unit_plan(model_.spec, {gpu.name}, 0), {gpu},
                  {.max_context = 2 * sizes.prompt, .max_tokens = sizes.prompt, .progress = {}}) {}

  const ModelSpec& spec() const { return model_.spec; }

  /// Median seconds of steps of `tokens` tokens from an empty cache on, by the host's clock.
  double step_s(int64_t tokens, int runs) {
    const std::vector<int32_t> ids(static_cast<size_t>(tokens), 1);
    std::vector<double> seconds;
    for (int run = -2; run < runs; ++run) {  // the first records
      executor_.set_context(0);
      const double start_s = steady_now_s();
      executor_.run({.tokens = tokens, .context = 0, .logits_rows = 1, .parents = {}}, ids);
      if (run >= 0) seconds.push_back(steady_now_s() - start_s);
    }
    return median(seconds);
  }

 private:
  Model model_;
  Executor executor_;
};

std::string mb(int64_t bytes) { return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6); }

/// Collects the rows of one device.
class GpuBench {
 public:
  GpuBench(const GpuSizes& sizes, const std::function<void(const std::string&)>& progress)
      : sizes_(sizes), progress_(progress), unit_(first_gpu()) {}

  std::vector<GpuRow> run() && {
    {
      GpuTimer gpu(unit_.index);
      copies(gpu);
      linears(gpu);
      attention(gpu);
    }
    whole_model();
    add("exchange between units", Measure::kMicroseconds, 5, [&] {
      GpuTimer gpu(unit_.index);
      return 1e6 * exchange_s(gpu, 4096, sizes_.runs);
    });
    add("profile of GPU and CPU", Measure::kSeconds, 120, sizes_.profile_s);
    return std::move(rows_);
  }

 private:
  template <class Function>
  void add(const std::string& what, Measure measure, double bar, const Function& f) {
    progress_(what);
    rows_.push_back({what, measure, f(), bar});
  }

  void copies(const GpuTimer& gpu) {
    add("copy within device memory", Measure::kBytesPerS, 0,
        [&] { return bandwidth_ = copy_bytes_per_s(gpu, sizes_.copy_bytes, sizes_.runs); });
  }

  void linears(GpuTimer& gpu) {
    for (const bool large : {true, false})
      for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
        const int64_t bytes = large ? sizes_.large_bytes : sizes_.small_bytes;
        const double bar = dtype == DType::kQ4_0 ? (large ? 0.75 : 0.55) : (large ? 0.85 : 0.65);
        add(fmt::format("linear {} {}, 1 token", name(dtype), mb(bytes)), Measure::kShare, bar,
            [&] {
              return linear_bytes_per_s(gpu, dtype, bytes, sizes_.rotated_bytes, sizes_.runs) /
                     bandwidth_;
            });
      }
  }

  void attention(GpuTimer& gpu) {
    for (const auto& [context, bar] :
         {std::pair(sizes_.short_context, 0.6), std::pair(sizes_.long_context, 0.75)})
      add(fmt::format("attention f16 8 x 4 x 128 at {}, 1 token", context), Measure::kShare, bar,
          [&, context = context] {
            return attention_bytes_per_s(gpu, context, sizes_.rotated_bytes, sizes_.runs) /
                   bandwidth_;
          });
  }

  void whole_model() {
    progress_("placing " + sizes_.model_name);
    WholeModel model(sizes_, unit_);
    add("decode step of " + sizes_.model_name, Measure::kShare, 0.8, [&] {
      return static_cast<double>(weight_bytes_per_token(model.spec())) /
             model.step_s(1, 2 * sizes_.runs) / bandwidth_;
    });
    add(fmt::format("prefill of {} tokens, over plain products", sizes_.prompt), Measure::kShare,
        0.6, [&] {
          const GpuTimer gpu(unit_.index);
          return products_s(gpu, model.spec(), sizes_.prompt, sizes_.runs) /
                 model.step_s(sizes_.prompt, sizes_.runs);
        });
  }

  const GpuSizes& sizes_;
  const std::function<void(const std::string&)>& progress_;
  Unit unit_;
  double bandwidth_ = 0;
  std::vector<GpuRow> rows_;
};

std::string text(Measure measure, double value) {
  switch (measure) {
    case Measure::kBytesPerS:
      return format_bytes_per_s(value);
    case Measure::kShare:
      return fmt::format("{:.1f} %", 100 * value);
    case Measure::kMicroseconds:
      return fmt::format("{:.2f} us", value);
    case Measure::kSeconds:
      return fmt::format("{:.1f} s", value);
  }
  return "";
}

const char* unit_name(Measure measure) {
  switch (measure) {
    case Measure::kBytesPerS:
      return "bytes/s";
    case Measure::kShare:
      return "share";
    case Measure::kMicroseconds:
      return "us";
    case Measure::kSeconds:
      return "s";
  }
  return "";
}

}  // namespace

bool GpuRow::holds() const {
  if (measure == Measure::kBytesPerS) return true;
  return measure == Measure::kShare ? measured >= bar : measured <= bar;
}

GpuSizes full_sizes() {
  return {.copy_bytes = int64_t{1} << 30,
          .rotated_bytes = int64_t{512} << 20,
          .large_bytes = 128'000'000,
          .small_bytes = 32'000'000,
          .short_context = 8192,
          .long_context = 32768,
          .prompt = 512,
          .runs = 11,
          .model_name = "llama-3-8b bf16",
          .model = [] { return open_model({.model = "llama-3-8b", .dtype = DType::kBF16}); },
          .profile_s = profile_wall_s};
}

std::vector<GpuRow> gpu_rows(const GpuSizes& sizes,
                             const std::function<void(const std::string&)>& progress) {
  return GpuBench(sizes, progress).run();
}

std::string gpu_table(const std::vector<GpuRow>& rows) {
  Table table({"what", "measured", "bar", "holds"});
  for (const GpuRow& row : rows) {
    const bool has_bar = row.measure != Measure::kBytesPerS;
    const char* sign = row.measure == Measure::kShare ? ">=" : "<=";
    table.add({row.what, text(row.measure, row.measured),
               has_bar ? fmt::format("{} {}", sign, text(row.measure, row.bar)) : "",
               has_bar ? (row.holds() ? "yes" : "no") : ""});
  }
  return table.text();
}

nlohmann::ordered_json gpu_json(const std::vector<GpuRow>& rows) {
  auto all = nlohmann::ordered_json::array();
  for (const GpuRow& row : rows) {
    nlohmann::ordered_json json{
        {"what", row.what}, {"measured", row.measured}, {"unit", unit_name(row.measure)}};
    if (row.measure != Measure::kBytesPerS) json.update({{"bar", row.bar}, {"holds", row.holds()}});
    all.push_back(std::move(json));
  }
  return all;
}

}  // namespace tandem::bench
