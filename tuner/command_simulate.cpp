// `tandem simulate`: one step of a plan in virtual time. It needs a profile, and no hardware.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "kernels/error.h"
#include "sim/simulate.h"
#include "tuner/cli.h"
#include "tuner/commands.h"
#include "tuner/memory_limits.h"
#include "tuner/plan_yaml.h"
#include "tuner/search.h"

namespace tandem {
namespace {

struct SimulateArgs {
  ModelArgs model;
  MachineArgs machine;
  std::string plan;
  std::optional<int64_t> tokens, context;
  std::string parents;
  std::string trace;
  OutputArgs out;
};

struct Outcome {
  TaskGraph graph;
  Timeline timeline;
  Interval interval;
  Ledger ledger;
  std::vector<std::string> unmeasured;  ///< dtypes of the model, priced by their bytes
  std::optional<DType> unmeasured_kv;   ///< of the KV cache, likewise
};

/// The step that the options describe. A tree is verified: logits of all its tokens, and the host
/// chooses.
Step parse_step(const SimulateArgs& args, int64_t default_context) {
  Step step;
  step.parents = parse_integers(args.parents, "--parents");
  const auto num_parents = static_cast<int64_t>(step.parents.size());
  step.tokens = args.tokens.value_or(std::max<int64_t>(num_parents, 1));
  step.logits_rows = num_parents > 0 ? step.tokens : 1;
  step.context = args.context.value_or(default_context);
  step.sampled = num_parents > 0;
  return step;
}

Plan search_plan(const ModelSpec& model, const MachineProfile& machine, const Step& step) {
  SearchOptions options;
  options.budget_bytes = device_budgets(machine, {});
  options.workload.context = step.context;
  options.workload.tokens = step.tokens;
  return search(model, machine, options).plan;
}

Outcome simulate_step(const ModelSpec& model, const MachineProfile& machine, const Plan& plan,
                      const Step& step) {
  const CostModel cost(model, machine, plan);
  Outcome outcome;
  for (const DType dtype : cost.unmeasured()) outcome.unmeasured.emplace_back(name(dtype));
  outcome.unmeasured_kv = cost.unmeasured_kv();
  outcome.graph = lower(model, plan, step);
  outcome.timeline = simulate(model, plan, outcome.graph, cost);
  outcome.interval = interval_90(outcome.graph, cost, outcome.timeline);
  outcome.ledger.add(outcome.graph, outcome.timeline);
  return outcome;
}

Rate tokens_per_s(const Outcome& outcome) {
  const auto tokens = static_cast<double>(outcome.graph.step.tokens);
  return {.per_s = tokens / outcome.timeline.makespan_s,
          .low = tokens / outcome.interval.high_s,
          .high = tokens / outcome.interval.low_s};
}

Json outcome_json(const Outcome& outcome, const Plan& plan, const MachineProfile& machine) {
  const Step& step = outcome.graph.step;
  return {{"model", plan.model_name},
          {"machine", machine.machine.name},
          {"step", {{"tokens", step.tokens}, {"context", step.context}, {"parents", step.parents}}},
          {"makespan_s", outcome.timeline.makespan_s},
          {"interval_90_s", {outcome.interval.low_s, outcome.interval.high_s}},
          {"tokens_per_s", to_json(tokens_per_s(outcome))},
          {"unmeasured", outcome.unmeasured},
          {"unmeasured_kv", outcome.unmeasured_kv ? name(*outcome.unmeasured_kv) : ""},
          {"ledger", to_json(outcome.ledger, plan.units)}};
}

void print_ledger(const Ledger& ledger, const std::vector<std::string>& units) {
  Table stages({"stage", "unit", "tasks", "time", "of the step", "read", "rate"});
  for (const LedgerEntry& e : ledger.entries)
    stages.add({std::string(name(e.stage)),
                format_holder(units[static_cast<size_t>(e.unit)], e.home),
                fmt::format("{}", e.tasks), format_seconds(e.busy_s),
                fmt::format("{:.1f} %", 100 * e.busy_s / ledger.makespan_s), format_bytes(e.bytes),
                e.busy_s > 0 ? format_bytes_per_s(e.bytes / e.busy_s) : "-"});
  Table busy({"unit", "busy", "waiting", "utilisation"});
  for (int unit = 0; unit < ledger.num_units; ++unit)
    busy.add({units[static_cast<size_t>(unit)], format_seconds(ledger.busy_s(unit)),
              format_seconds(ledger.makespan_s - ledger.busy_s(unit)),
              fmt::format("{:.1f} %", 100 * ledger.utilisation(unit))});
  fmt::print("{}\n{}", stages.text(), busy.text());
}

void print_outcome(const Outcome& outcome, const Plan& plan, const MachineProfile& machine) {
  const Step& step = outcome.graph.step;
  fmt::print("{} on {}: {} token{} at context {}\n", plan.model_name, machine.machine.name,
             step.tokens, step.tokens == 1 ? "" : "s", step.context);
  fmt::print("step    {} ({} .. {})\n", format_seconds(outcome.timeline.makespan_s),
             format_seconds(outcome.interval.low_s), format_seconds(outcome.interval.high_s));
  fmt::print("tokens  {} per second\n\n", format_rate(tokens_per_s(outcome)));
  print_ledger(outcome.ledger, plan.units);
  for (const std::string& dtype : outcome.unmeasured)
    fmt::print(stderr, "warning: {} was not measured on {}: priced by its bytes\n", dtype,
               machine.machine.name);
  if (outcome.unmeasured_kv)
    fmt::print(stderr, "warning: a KV cache of {} was not measured on {}: priced by its bytes\n",
               name(*outcome.unmeasured_kv), machine.machine.name);
}

ModelSource source(const SimulateArgs& args) {
  if (!args.plan.empty()) return source_of_plan(args.plan, args.model);
  if (args.model.model.empty()) throw Error("simulate: give --model, or --plan which names one");
  return model_source(args.model);
}

void simulate(const SimulateArgs& args) {
  const MachineProfile machine = open_machine(args.machine);
  const ModelSpec model = open_spec(source(args));
  const std::optional<Plan> given =
      args.plan.empty() ? std::nullopt : std::optional(read_plan(args.plan, model));
  const Step step =
      parse_step(args, given ? given->workload.context : default_workload(model).context);
  check_context(model, step.context, step.tokens);
  if (!args.trace.empty())
    prepare_output(args.trace, {args.model.model, args.machine.machine, args.plan});
  const Plan plan = given ? *given : search_plan(model, machine, step);
  const Outcome outcome = simulate_step(model, machine, plan, step);
  if (!args.trace.empty()) write_trace(args.trace, outcome.graph, outcome.timeline, plan.units);
  if (args.out.json)
    print_json(outcome_json(outcome, plan, machine));
  else
    print_outcome(outcome, plan, machine);
}

}  // namespace

void add_simulate_command(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command = app.add_subcommand("simulate", "predict one step in virtual time");
  command->footer(
      "Example: tandem simulate --model llama-3-8b --tokens 4 --parents -1,0,0,1 "
      "--set units.cpu0.cores=8 --trace step.json");
  const auto args = std::make_shared<SimulateArgs>();
  add_model_options(*command, args->model);
  add_machine_options(*command, args->machine);
  command->add_option("--plan", args->plan, "plan to simulate (default: the best one is searched)");
  command
      ->add_option("--tokens", args->tokens,
                   "tokens of the step: 1 decodes, many prefill (default: one per parent, else 1)")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--context", args->context,
                   "positions cached before the step (default: the plan's, else 1024)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--parents", args->parents,
                      "tree to verify: the parent of every token, -1 = the context, e.g. -1,0,0,1");
  command->add_option("--trace", args->trace, "Chrome/Perfetto trace to write (JSON)");
  add_output_options(*command, args->out);
  command->callback([args] { simulate(*args); });
}

}  // namespace tandem
