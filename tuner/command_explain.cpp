// `tandem explain`: prints what a plan gives to whom, and what it costs.

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>

#include "tuner/cli.h"
#include "tuner/commands.h"
#include "tuner/explain.h"
#include "tuner/plan_yaml.h"

namespace tandem {
namespace {

struct ExplainArgs {
  std::string plan;
  ModelArgs model;
  MachineArgs machine;
  bool machine_named = false;
  bool json = false;
};

/// The profile that was named, or the one at the default place if there is one.
std::optional<MachineProfile> find_machine(const ExplainArgs& args) {
  if (!args.machine_named && !std::filesystem::exists(args.machine.machine)) return std::nullopt;
  return open_machine(args.machine);
}

Json explanation_json(const Explanation& explained, const Phase& phase, const Plan& plan) {
  Json ops = Json::array(), bytes = Json::object();
  for (const ExplainedOp& op : explained.ops) {
    Json row = {{"op", name(op.stage)},
                {"unit", plan.units[static_cast<size_t>(op.unit)]},
                {"range", op.what},
                {"tasks", op.tasks},
                {"bytes", op.bytes}};
    if (op.home == Home::kStreamed) row["home"] = "streamed";
    if (!op.layers.empty()) row["layers"] = {op.layers.begin, op.layers.end};
    if (op.share) row["share"] = *op.share;
    if (explained.makespan_s) row.update({{"seconds", op.seconds}, {"bound", op.bound}});
    ops.push_back(std::move(row));
  }
  for (size_t i = 0; i < plan.units.size(); ++i) bytes[plan.units[i]] = explained.bytes_of_unit[i];
  Json json = {{"tokens_range", format_range(phase.tokens)},
               {"context_range", format_range(phase.context)},
               {"step", {{"tokens", explained.step.tokens}, {"context", explained.step.context}}},
               {"ops", std::move(ops)},
               {"bytes_of_unit", std::move(bytes)}};
  if (explained.makespan_s) json["makespan_s"] = *explained.makespan_s;
  return json;
}

void print_ops(const Explanation& explained, const Plan& plan) {
  const bool timed = explained.makespan_s.has_value();
  std::vector<std::string> header = {"layers", "op", "unit", "share", "columns", "bytes"};
  if (timed) header.insert(header.end(), {"time", "bound by"});
  Table table(std::move(header));
  for (const ExplainedOp& op : explained.ops) {
    std::vector<std::string> row = {
        op.layers.empty() ? "" : format_range(op.layers),
        std::string(name(op.stage)),
        format_holder(plan.units[static_cast<size_t>(op.unit)], op.home),
        op.share ? fmt::format("{:.2f} %", 100 * *op.share) : "-",
        op.what,
        format_bytes(op.bytes)};
    if (timed) row.insert(row.end(), {format_seconds(op.seconds), op.bound});
    table.add(std::move(row));
  }
  fmt::print("{}", table.text());
}

/// Bytes and seconds of a step and of each of its tokens.
void print_totals(const Explanation& explained, const Plan& plan) {
  const auto tokens = static_cast<double>(explained.step.tokens);
  for (size_t i = 0; i < plan.units.size(); ++i)
    fmt::print("{} reads {} per token\n", plan.units[i],
               format_bytes(explained.bytes_of_unit[i] / tokens));
  if (explained.makespan_s)
    fmt::print("step {}, {} per token, {:.2f} tokens/s\n", format_seconds(*explained.makespan_s),
               format_seconds(*explained.makespan_s / tokens), tokens / *explained.makespan_s);
}

void print_explanation(const Explanation& explained, const Phase& phase, const Plan& plan) {
  fmt::print(
      "\nSteps of tokens {} at context {}; here {} token{} at {}. Bytes and times are of "
      "all layers of a row.\n\n",
      format_range(phase.tokens), format_range(phase.context), explained.step.tokens,
      explained.step.tokens == 1 ? "" : "s", explained.step.context);
  print_ops(explained, plan);
  print_totals(explained, plan);
}

void print_heading(const Plan& plan, const std::optional<MachineProfile>& machine) {
  fmt::print("{} {} on {}\n", plan.model_name, plan.model_dtype, plan.machine_name);
  if (!machine)
    fmt::print("No times: name a profile with --machine.\n");
  else if (machine->fingerprint != plan.machine_fingerprint)
    fmt::print("Times are of {}, which the plan was not made for.\n", machine->machine.name);
}

void explain_plan(const ExplainArgs& args) {
  const ModelSpec model = open_spec(source_of_plan(args.plan, args.model));
  const Plan plan = read_plan(args.plan, model);
  const std::optional<MachineProfile> machine = find_machine(args);
  std::vector<Explanation> explained;
  for (const Phase& phase : plan.phases)
    explained.push_back(
        explain(model, plan, typical_step(plan, phase), machine ? &*machine : nullptr));
  Json phases = Json::array();
  if (!args.json) print_heading(plan, machine);
  for (size_t i = 0; i < plan.phases.size(); ++i) {
    if (args.json)
      phases.push_back(explanation_json(explained[i], plan.phases[i], plan));
    else
      print_explanation(explained[i], plan.phases[i], plan);
  }
  if (args.json)
    print_json({{"model", plan.model_name},
                {"dtype", plan.model_dtype},
                {"machine", machine ? Json(machine->machine.name) : Json(nullptr)},
                {"phases", std::move(phases)}});
}

}  // namespace

void add_explain_command(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command =
      app.add_subcommand("explain", "print what a plan gives to whom, and what it costs");
  command->footer("Example: tandem explain plan.yaml --machine machine.yaml");
  const auto args = std::make_shared<ExplainArgs>();
  command->add_option("plan", args->plan, "plan to explain")->required();
  add_model_options(*command, args->model);
  const CLI::Option* machine = add_machine_options(*command, args->machine);
  command->add_flag("--json", args->json, "print it as JSON (seconds, bytes)");
  command->callback([args, machine] {
    args->machine_named = machine->count() > 0;
    explain_plan(*args);
  });
}

}  // namespace tandem
