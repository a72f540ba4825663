// `tandem plan`: searches the best plan of a model on a machine, and says what it is compared with.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "kernels/error.h"
#include "kernels/kv_format.h"
#include "tuner/cli.h"
#include "tuner/commands.h"
#include "tuner/memory_limits.h"
#include "tuner/plan_yaml.h"
#include "tuner/search.h"

namespace tandem {
namespace {

struct PlanArgs {
  ModelArgs model;
  MachineArgs machine;
  std::optional<int64_t> context, tokens, prompt;
  std::string kv = "f16";
  std::vector<std::string> budgets;
  std::string units;
  bool layer_granular = false;
  std::string output = "plan.yaml";
  OutputArgs out;
};

/// Error where the model was not made for so many positions.
Workload workload(const PlanArgs& args, const ModelSpec& model) {
  Workload workload = default_workload(model);
  workload.context = args.context.value_or(workload.context);
  workload.tokens = args.tokens.value_or(workload.tokens);
  workload.prompt = args.prompt.value_or(workload.prompt);
  check_context(model, workload.context, workload.tokens);
  check_context(model, 0, workload.prompt);
  return workload;
}

SearchOptions search_options(const PlanArgs& args, const ModelSpec& model,
                             const MachineProfile& machine) {
  SearchOptions options;
  options.kv_dtype = parse_kv_dtype(args.kv, model);
  options.budget_bytes = device_budgets(machine, parse_budgets(args.budgets, machine));
  options.units = split_list(args.units);
  for (const std::string& unit : options.units) {
    check_unit(machine, unit, "--units");
    if (std::count(options.units.begin(), options.units.end(), unit) > 1)
      throw Error(fmt::format("--units: {} is listed twice", unit));
  }
  return options;
}

/// What the plan is, beside what it was chosen from: all that the report needs.
struct Report {
  SearchResult result;
  std::vector<MemoryUse> memory;  ///< per unit of the plan
  std::map<std::string, int64_t> budgets;
  int64_t machine_memory = 0;
  std::string path;
};

double decode_per_s(const Candidate& candidate, const Workload& workload) {
  return static_cast<double>(workload.tokens) / candidate.decode_step_s;
}

double prefill_per_s(const Candidate& candidate, const Workload& workload) {
  return static_cast<double>(workload.prompt) / candidate.prefill_s;
}

int64_t budget_of(const Report& report, const std::string& unit) {
  const auto at = report.budgets.find(unit);
  return at == report.budgets.end() ? report.machine_memory : at->second;
}

Json report_json(const Report& report) {
  const Plan& plan = report.result.plan;
  Json candidates = Json::array(), memory = Json::object();
  for (const Candidate& c : report.result.candidates)
    candidates.push_back({{"name", c.name},
                          {"decode_tokens_per_s", decode_per_s(c, plan.workload)},
                          {"prefill_tokens_per_s", prefill_per_s(c, plan.workload)},
                          {"fits", c.fits}});
  for (size_t i = 0; i < plan.units.size(); ++i)
    memory[plan.units[i]] = {{"weights", report.memory[i].weights},
                             {"kv", report.memory[i].kv},
                             {"workspace", report.memory[i].workspace},
                             {"host", report.memory[i].host},
                             {"budget", budget_of(report, plan.units[i])}};
  return {{"file", report.path},
          {"model", plan.model_name},
          {"dtype", plan.model_dtype},
          {"machine", plan.machine_name},
          {"workload",
           {{"context", plan.workload.context},
            {"tokens", plan.workload.tokens},
            {"prompt", plan.workload.prompt}}},
          {"verdict", report.result.verdict},
          {"predicted", to_json(plan.predicted.value_or(Prediction{}))},
          {"candidates", std::move(candidates)},
          {"memory_bytes", std::move(memory)},
          {"warnings", report.result.warnings}};
}

void print_candidates(const Report& report) {
  const Workload& workload = report.result.plan.workload;
  Table table({"plan", "decode tok/s", "prefill tok/s", "fits"});
  for (const Candidate& c : report.result.candidates)
    table.add({c.name, fmt::format("{:.2f}", decode_per_s(c, workload)),
               fmt::format("{:.1f}", prefill_per_s(c, workload)), c.fits ? "yes" : "no"});
  fmt::print("{}", table.text());
}

void print_memory(const Report& report) {
  const auto text = [](int64_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  const bool on_host = std::any_of(report.memory.begin(), report.memory.end(),
                                   [](const MemoryUse& use) { return use.host > 0; });
  std::vector<std::string> header = {"memory", "weights", "KV", "workspace", "together", "budget"};
  if (on_host) header.emplace_back("on the host");
  Table table(std::move(header));
  for (size_t i = 0; i < report.memory.size(); ++i) {
    const MemoryUse& use = report.memory[i];
    const std::string& unit = report.result.plan.units[i];
    std::vector<std::string> row = {unit,
                                    text(use.weights),
                                    text(use.kv),
                                    text(use.workspace),
                                    text(use.own()),
                                    text(budget_of(report, unit))};
    if (on_host) row.push_back(use.host > 0 ? text(use.host) : "-");
    table.add(std::move(row));
  }
  fmt::print("{}", table.text());
}

void print_prediction(const Plan& plan) {
  if (!plan.predicted) return;
  const Prediction& predicted = *plan.predicted;
  fmt::print("decode   {} tokens/s, {} a step at context {}\n",
             format_rate(predicted.decode_tokens_per_s),
             plan.workload.tokens == 1 ? "1 token" : fmt::format("{} tokens", plan.workload.tokens),
             plan.workload.context);
  fmt::print("prefill  {} tokens/s, a prompt of {} tokens\n",
             format_rate(predicted.prefill_tokens_per_s), plan.workload.prompt);
  fmt::print("bound    no plan's step is faster than {}; this one is within {:.2f} % of it\n\n",
             format_seconds(predicted.lower_bound_s), 100 * predicted.gap);
}

void print_report(const Report& report) {
  const Plan& plan = report.result.plan;
  fmt::print("{} {} on {}\n\n", plan.model_name, plan.model_dtype, plan.machine_name);
  print_candidates(report);
  fmt::print("\n{}\n\n", report.result.verdict);
  print_prediction(plan);
  print_memory(report);
  for (const std::string& warning : report.result.warnings)
    fmt::print(stderr, "warning: {}\n", warning);
  fmt::print("\nWrote {}\n", report.path);
}

/// What is written is the placement by whole layers.
void take_layers(SearchResult& result) {
  if (!result.layers)
    throw Error(
        "--layer-granular: no budget binds that leaves some layers to another unit; expected one, "
        "e.g. --budget gpu0=6GiB");
  result.plan = *result.layers;
  result.verdict =
      "whole layers on units, as --layer-granular asks; the search has " + result.verdict;
}

void plan(const PlanArgs& args) {
  const MachineProfile machine = open_machine(args.machine);
  const ModelSpec model = open_spec(model_source(args.model));
  SearchOptions options = search_options(args, model, machine);
  options.workload = workload(args, model);
  prepare_output(args.output, {args.model.model, args.machine.machine});
  Report report{.result = search(model, machine, options),
                .memory = {},
                .budgets = options.budget_bytes,
                .machine_memory = machine.machine.memory_bytes,
                .path = args.output};
  if (args.layer_granular) take_layers(report.result);
  report.result.plan.model_source = plan_source(args.model.model);
  report.memory = plan_memory(model, machine, report.result.plan);
  write_plan(report.result.plan, model, args.output);
  if (args.out.json)
    print_json(report_json(report));
  else
    print_report(report);
}

void add_workload_options(CLI::App& command, PlanArgs& args) {
  command
      .add_option("--context", args.context,
                  "positions cached when decoding (default: 1024, or what the model allows)")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--tokens", args.tokens, "tokens of a decode or verification step (default: 1)")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--prompt", args.prompt,
                  "tokens of the prefill that is planned (default: 512, or what the model allows)")
      ->check(CLI::PositiveNumber);
  command.add_option("--kv", args.kv, "format of the KV cache: " + kv_format_names())
      ->capture_default_str();
}

}  // namespace

void add_plan_command(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command = app.add_subcommand("plan", "search the best plan: write plan.yaml");
  command->footer(
      "Example: tandem plan --model tinyllama-1.1b --dtype q8_0 --context 1024 "
      "--budget cpu0=2GiB -o plan.yaml");
  const auto args = std::make_shared<PlanArgs>();
  add_model_options(*command, args->model)->required();
  add_machine_options(*command, args->machine);
  add_workload_options(*command, *args);
  add_budget_option(*command, args->budgets);
  command->add_option("--units", args->units, "units to use, e.g. cpu0,cpu1 (default: all)");
  command->add_flag("--layer-granular", args->layer_granular,
                    "write the placement by whole layers that the budgets allow, to compare with");
  command->add_option("-o,--output", args->output, "plan to write")->capture_default_str();
  add_output_options(*command, args->out);
  command->callback([args] { plan(*args); });
}

}  // namespace tandem
