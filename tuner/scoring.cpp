#include "tuner/scoring.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/memory_needs.h"
#include "sim/simulate.h"
#include "tuner/format.h"
#include "tuner/layer_search.h"
#include "tuner/memory_limits.h"
#include "tuner/search_space.h"

namespace tandem {
namespace {

std::string bytes_text(int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

struct Simulated {
  double seconds = 0;
  Interval interval;
};

Simulated simulate_steps(const ModelSpec& model, const Plan& plan, const CostModel& cost,
                         const std::vector<Step>& steps) {
  Simulated sum;
  for (const Step& step : steps) {
    const TaskGraph graph = lower(model, plan, step);
    const Timeline timeline = simulate(model, plan, graph, cost);
    const Interval interval = interval_90(graph, cost, timeline);
    sum.seconds += timeline.makespan_s;
    sum.interval.low_s += interval.low_s;
    sum.interval.high_s += interval.high_s;
  }
  return sum;
}

/// Zero where nothing was planned.
Rate rate(int64_t tokens, const Simulated& simulated) {
  if (simulated.seconds == 0) return {};
  const auto n = static_cast<double>(tokens);
  return {n / simulated.seconds, n / simulated.interval.high_s, n / simulated.interval.low_s};
}

}  // namespace

double request_s(const Candidate& candidate) {
  return kPlannedDecodeSteps * candidate.decode_step_s + candidate.prefill_s;
}

Plan Scorer::with_header(Plan plan) const {
  plan.machine_name = machine_.machine.name;
  plan.machine_fingerprint = machine_.fingerprint;
  plan.kv_dtype = options_.kv_dtype;
  plan.workload = options_.workload;
  return plan;
}

ScoredPlan Scorer::score(const std::string& name, Plan plan) const {
  ScoredPlan scored{{}, with_header(std::move(plan))};
  const CostModel cost(model_, machine_, scored.plan);
  const Workload& workload = options_.workload;
  scored.candidate.name = name;
  scored.candidate.decode_step_s =
      simulate_steps(model_, scored.plan, cost, {decode_step(workload)}).seconds;
  scored.candidate.prefill_s =
      simulate_steps(model_, scored.plan, cost, prefill_steps(workload)).seconds;
  scored.candidate.fits = fits(scored.plan);
  return scored;
}

std::vector<MemoryUse> Scorer::memory(const Plan& plan) const {
  return plan_memory(model_, machine_, with_header(plan));
}

int64_t Scorer::embedding_bytes(const Plan& plan) const {
  const std::vector<Unit> units = units_named(machine_, plan.units);
  if (units[static_cast<size_t>(plan.embedding)].kind == UnitKind::kCuda) return 0;
  return tandem::embedding_bytes(model_, {&plan, 1}, units);
}

bool Scorer::fits(const Plan& plan) const {
  const std::vector<MemoryUse> memory = this->memory(plan);
  for (size_t unit = 0; unit < memory.size(); ++unit) {
    const auto budget = options_.budget_bytes.find(plan.units[unit]);
    if (budget != options_.budget_bytes.end() && memory[unit].own() > budget->second) return false;
  }
  return all_fit(memory_totals(machine_.machine, units_named(machine_, plan.units), memory));
}

std::string Scorer::memory_table(const Plan& plan) const {
  const std::vector<MemoryUse> memory = this->memory(plan);
  std::vector<std::string> rows;
  for (size_t unit = 0; unit < memory.size(); ++unit) {
    const auto budget = options_.budget_bytes.find(plan.units[unit]);
    rows.push_back(
        fmt::format("{} needs {} of {}", plan.units[unit], bytes_text(memory[unit].own()),
                    bytes_text(budget == options_.budget_bytes.end() ? machine_.machine.memory_bytes
                                                                     : budget->second)));
  }
  const MemoryTotal host =
      memory_totals(machine_.machine, units_named(machine_, plan.units), memory).front();
  return fmt::format("{}, together {} of {}", fmt::join(rows, ", "), bytes_text(host.needed()),
                     bytes_text(host.present));
}

Prediction Scorer::predict(const Plan& plan, double lower_bound_s) const {
  const CostModel cost(model_, machine_, plan);
  const Workload& workload = options_.workload;
  const Simulated decode = simulate_steps(model_, plan, cost, {decode_step(workload)});
  const Simulated prefill = simulate_steps(model_, plan, cost, prefill_steps(workload));
  return {rate(workload.tokens, decode), rate(workload.prompt, prefill), lower_bound_s,
          decode.seconds / lower_bound_s - 1};
}

std::vector<std::string> Scorer::warnings(const Plan& plan) const {
  const CostModel cost(model_, machine_, plan);
  std::vector<std::string> warnings;
  for (const DType dtype : cost.unmeasured())
    warnings.push_back(fmt::format(
        "{} was not measured on {}: priced from the nearest dtype (`tandem profile --dtypes {}`)",
        name(dtype), machine_.machine.name, name(dtype)));
  if (const auto kv = cost.unmeasured_kv())
    warnings.push_back(
        fmt::format("attention over a KV cache of {} was not measured on {}: priced from another "
                    "format by bytes",
                    name(*kv), machine_.machine.name));
  std::vector<Step> steps = prefill_steps(options_.workload);
  steps.push_back(decode_step(options_.workload));
  size_t outside = 0, tasks = 0;
  for (const Step& step : steps)
    for (const Task& task : lower(model_, plan, step).tasks) {
      ++tasks;
      outside += cost.cost(task).extrapolated;
    }
  if (outside > 0)
    warnings.push_back(fmt::format(
        "{} of {} tasks lie outside what was measured; the interval does not count that", outside,
        tasks));
  return warnings;
}

}  // namespace tandem
