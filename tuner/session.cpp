#include "tuner/session.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/error.h"
#include "kernels/kv_format.h"
#include "profiles/profile_yaml.h"
#include "profiles/topology.h"
#include "runtime/memory_needs.h"
#include "tuner/memory_limits.h"
#include "tuner/plan_units.h"
#include "tuner/plan_yaml.h"
#include "tuner/search.h"

namespace tandem {
namespace {

/// Only what is known without measuring.
MachineProfile unmeasured_machine() {
  MachineProfile profile;
  profile.machine = detect_machine();
  for (const Unit& unit : default_units(profile.machine)) {
    UnitProfile unmeasured;
    unmeasured.unit = unit;
    profile.units.push_back(std::move(unmeasured));
  }
  profile.tool_version = kToolVersion;
  profile.fingerprint = profile_fingerprint(profile);
  return profile;
}

void check_is_this_machine(const MachineProfile& profile, const std::string& path) {
  const Machine here = detect_machine();
  const auto check = [&](const char* what, const std::string& measured,
                         const std::string& present) {
    if (measured == present) return;
    throw Error(fmt::format(
        "{}: measured on another machine: {} {}, here {}: run `tandem profile` again, or --force",
        path, what, measured, present));
  };
  const auto caches = [](const Machine& machine) {
    std::string text;
    for (const CacheLevel& level : machine.caches)
      text += fmt::format("{}L{} {} B / {}", text.empty() ? "" : ", ", level.level, level.bytes,
                          level.sharing_cores);
    return text;
  };
  check("CPU", profile.machine.cpu, here.cpu);
  check("cores", fmt::format("{}", fmt::join(profile.machine.cores, ",")),
        fmt::format("{}", fmt::join(here.cores, ",")));
  check("caches", caches(profile.machine), caches(here));
  check("memory", std::to_string(profile.machine.memory_bytes), std::to_string(here.memory_bytes));
  check("instruction sets", profile.machine.isas, here.isas);
  check("Linux", profile.machine.kernel, here.kernel);
  check("tandem", profile.tool_version, kToolVersion);
}

void check_made_for(const Plan& plan, const Session& session, const std::string& path) {
  const auto check = [&](const char* option, const std::string& name, const std::string& made_for,
                         const std::string& present_name, const std::string& present) {
    if (made_for.empty() || made_for == present) return;
    throw Error(
        fmt::format("{}: made for {} {} (fingerprint {}), not {} (fingerprint {}): give its own "
                    "with --{}, plan again, or --force",
                    path, option, name, made_for, present_name, present, option));
  };
  check("model", plan.model_name, plan.model_fingerprint, session.model->spec.name,
        session.model->spec.fingerprint);
  check("machine", plan.machine_name, plan.machine_fingerprint, session.machine.machine.name,
        session.machine.fingerprint);
}

std::vector<std::string> unit_names(const MachineProfile& machine) {
  std::vector<std::string> names;
  for (const UnitProfile& profile : machine.units) names.push_back(profile.unit.name);
  return names;
}

/// The units that a plan names, as the machine has them.
std::vector<Unit> units_of(const Plan& plan, const MachineProfile& machine,
                           const std::string& path) {
  std::vector<Unit> units;
  for (const std::string& name : plan.units) {
    const auto at = std::find_if(machine.units.begin(), machine.units.end(),
                                 [&](const UnitProfile& p) { return p.unit.name == name; });
    if (at == machine.units.end())
      throw Error(fmt::format("{}: unit {}: the machine has {} (another profile: --machine)", path,
                              name, fmt::join(unit_names(machine), ", ")));
    units.push_back(at->unit);
  }
  check_streaming_units(plan, units, path.empty() ? "plan" : path);
  return units;
}

Plan plan_without_file(const Session& session, const SessionArgs& args, const Workload& workload) {
  if (!session.measured) {
    Plan plan = single_unit_plan(session.model->spec, unit_names(session.machine), 0);
    plan.workload = workload;
    return plan;
  }
  SearchOptions options{
      .workload = workload,
      .kv_dtype = {},
      .budget_bytes = device_budgets(session.machine, parse_budgets(args.budgets, session.machine)),
      .units = {}};
  options.kv_dtype = args.kv.empty() ? DType::kF16 : parse_kv_dtype(args.kv, session.model->spec);
  return search(session.model->spec, session.machine, options).plan;
}

void open_profile(Session& session, const SessionArgs& args) {
  const bool by_default = args.machine.machine == MachineArgs{}.machine;
  session.measured = !by_default || std::filesystem::exists(args.machine.machine);
  session.machine = session.measured ? open_machine(args.machine) : unmeasured_machine();
  if (session.measured && !args.force) check_is_this_machine(session.machine, args.machine.machine);
}

std::vector<MemoryTotal> totals_of(const Session& session, const ExecutorOptions& options) {
  return memory_totals(session.machine.machine, session.units,
                       memory_needs(session.model->spec, session.plan, session.units, options));
}

void check_memory(const Session& session, const ExecutorOptions& options) {
  const ModelSpec& spec = session.model->spec;
  const auto text = [](int64_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  for (const MemoryTotal& total : totals_of(session, options))
    if (total.needed() > total.present)
      throw Error(fmt::format(
          "{}: needs {} (weights {}, KV cache of {} positions {}, workspaces {}), {} has {}",
          spec.name, text(total.needed()), text(total.use.weights), options.max_context,
          text(total.use.kv), text(total.use.workspace + total.use.host), total.name,
          text(total.present)));
}

}  // namespace

void add_session_options(CLI::App& app, SessionArgs& args) {
  add_model_options(app, args.model);
  add_machine_options(app, args.machine);
  app.add_option(
      "--kv", args.kv,
      fmt::format("format of the KV cache: {} (default: the plan's)", kv_format_names()));
  app.add_flag("--force", args.force, "run a plan that was made for another model or machine");
}

Session open_session(const SessionArgs& args, std::optional<int64_t> context) {
  Session session;
  if (!args.plan.empty() && !args.budgets.empty())
    throw Error(fmt::format("--budget: {} is planned already: `tandem plan --budget`", args.plan));
  if (args.plan.empty() && args.model.model.empty())
    throw Error("--model: expected a GGUF file or a shape, or a --plan that names one");
  session.model = std::make_unique<Model>(open_model(
      args.plan.empty() ? model_source(args.model) : source_of_plan(args.plan, args.model)));
  open_profile(session, args);
  if (args.plan.empty()) {
    Workload workload = default_workload(session.model->spec);
    workload.context = context.value_or(workload.context);
    session.plan = plan_without_file(session, args, workload);
  } else {
    session.plan = read_plan(args.plan, session.model->spec);
    if (!args.force) check_made_for(session.plan, session, args.plan);
  }
  if (!args.kv.empty()) session.plan.kv_dtype = parse_kv_dtype(args.kv, session.model->spec);
  session.units = units_of(session.plan, session.machine, args.plan);
  return session;
}

Plan read_session_plan(const Session& session, const std::string& path, bool force) {
  Plan plan = read_plan(path, session.model->spec);
  if (!force) check_made_for(plan, session, path);
  plan = with_units(plan, session.plan.units, path);
  check_streaming_units(plan, session.units, path);
  return plan;
}

bool has_memory(const Session& session, const ExecutorOptions& options) {
  return all_fit(totals_of(session, options));
}

std::unique_ptr<Executor> open_executor(const Session& session, const ExecutorOptions& options) {
  check_memory(session, options);
  return std::make_unique<Executor>(*session.model, session.plan, session.units, options);
}

}  // namespace tandem
