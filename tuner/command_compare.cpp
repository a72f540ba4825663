// tandem compare: predicted beside measured time of many plans, the best of both and the regret.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>

#include "kernels/error.h"
#include "kernels/file.h"
#include "tuner/commands.h"
#include "tuner/compare_report.h"
#include "tuner/plan_units.h"
#include "tuner/session.h"
#include "tuner/sweep.h"

namespace tandem {
namespace {

struct CompareArgs {
  SessionArgs session;
  std::vector<std::string> plans;
  std::string sweep;
  int64_t random_plans = 0;
  std::vector<int64_t> contexts;
  std::string what = "decode";
  int64_t tokens = 1;
  std::optional<int64_t> prompt;
  TrialOptions trials;
  std::string output;
  OutputArgs out;
};

struct Comparison {
  std::vector<ComparePoint> points;
  bool in_turns = false;  ///< the plans had to be placed one after another
};

void check_args(const CompareArgs& args) {
  const int sources = !args.plans.empty() + !args.sweep.empty() + (args.random_plans > 0);
  if (sources != 1)
    throw Error("nothing to compare: expected plan files, --sweep or --random-plans, one of them");
  if (args.sweep == "context" && !args.contexts.empty())
    throw Error("--contexts: --sweep context sets its own");
}

/// The session with all units of the profile, so that any plan over some of them can run.
Session open_wide_session(const CompareArgs& args) {
  Session session = open_session(args.session);
  if (!session.measured)
    throw Error(fmt::format("{}: no such profile, and nothing to predict from: `tandem profile`",
                            args.session.machine.machine));
  std::vector<std::string> names;
  session.units.clear();
  for (const UnitProfile& profile : session.machine.units) {
    names.push_back(profile.unit.name);
    session.units.push_back(profile.unit);
  }
  session.plan = with_units(session.plan, names, args.session.plan);
  return session;
}

/// Bit u: unit u of the profile has a link to stream weights over.
uint64_t streaming_units(const MachineProfile& machine) {
  uint64_t mask = 0;
  for (size_t unit = 0; unit < machine.units.size(); ++unit)
    if (machine.units[unit].stream_per_s.median > 0) mask |= uint64_t{1} << unit;
  return mask;
}

std::vector<int64_t> contexts_of(const CompareArgs& args, const Session& session) {
  return args.contexts.empty() ? std::vector{session.plan.workload.context} : args.contexts;
}

std::vector<NamedPlan> make_plans(const CompareArgs& args, const Session& session) {
  const ModelSpec& model = session.model->spec;
  if (args.sweep == "columns") return column_sweep(model, session.plan.units);
  if (args.sweep == "heads") return head_sweep(model, session.plan);
  if (!args.sweep.empty()) return {{"planned", session.plan}};
  if (args.random_plans > 0) {
    const auto contexts = contexts_of(args, session);
    const int64_t deepest = *std::max_element(contexts.begin(), contexts.end());
    return random_plans(model, session.plan.units, args.random_plans, args.session.model.seed,
                        std::max(deepest, 2 * kAttentionChunk), streaming_units(session.machine));
  }
  std::vector<NamedPlan> plans;
  for (const std::string& path : args.plans)
    plans.push_back({path, read_session_plan(session, path, args.session.force)});
  return plans;
}

std::vector<TrialShape> make_shapes(const CompareArgs& args, const Session& session) {
  const ModelSpec& model = session.model->spec;
  const auto contexts = contexts_of(args, session);
  if (args.sweep == "context") return context_sweep(model, args.tokens);
  if (args.sweep == "tokens") return token_sweep(model, contexts.front());
  std::vector<TrialShape> shapes;
  if (args.what != "prefill")
    for (const int64_t context : contexts)
      shapes.push_back({TrialKind::kDecode, args.tokens, context});
  if (args.what != "decode")
    for (const int64_t context : args.contexts.empty() ? std::vector<int64_t>{0} : args.contexts)
      shapes.push_back(
          {TrialKind::kPrefill, args.prompt.value_or(session.plan.workload.prompt), context});
  return shapes;
}

ExecutorOptions executor_options(const Session& session, const std::vector<TrialShape>& shapes,
                                 const CompareArgs& args) {
  ExecutorOptions options;
  options.spans = false;
  options.max_context = 1;
  options.max_tokens = 1;
  for (const TrialShape& shape : shapes) {
    check_context(session.model->spec, shape.context, shape.tokens);
    const int64_t step = std::min(shape.tokens, args.trials.max_tokens);
    options.max_context = std::max(options.max_context, shape.context + shape.tokens);
    options.max_tokens = std::max(options.max_tokens, step);
    if (shape.kind == TrialKind::kDecode)
      options.max_logits_rows = std::max(options.max_logits_rows, shape.tokens);
  }
  return options;
}

/// Runs all trials of `plans`, in turn, on one executor; the first is the session's then.
std::vector<ComparePoint> run_points(Session& session, std::span<const NamedPlan> plans,
                                     const std::vector<TrialShape>& shapes, ExecutorOptions opened,
                                     const TrialOptions& options) {
  const ModelSpec& model = session.model->spec;
  session.plan = plans.front().plan;
  for (const NamedPlan& plan : plans.subspan(1)) opened.other_plans.push_back(plan.plan);
  const auto executor = open_executor(session, opened);
  StateGate gate(session.machine);
  const auto trials = make_trials(plans, shapes);
  const auto runs = run_trials(*executor, model, trials, gate, options);
  std::vector<ComparePoint> points;
  for (size_t i = 0; i < trials.size(); ++i) {
    points.push_back(
        {trials[i], predict(model, session.machine, trials[i], options.max_tokens), runs[i]});
    points.back().trial.plan = nullptr;  // the plans end before their points
  }
  return points;
}

/// The same, one plan after another.
std::vector<ComparePoint> run_in_turns(Session& session, const std::vector<NamedPlan>& plans,
                                       const std::vector<TrialShape>& shapes,
                                       const ExecutorOptions& opened, TrialOptions options) {
  const auto progress = options.progress;
  const auto count = static_cast<double>(plans.size());
  options.max_seconds /= count;
  std::vector<ComparePoint> points;
  for (size_t i = 0; i < plans.size(); ++i) {
    options.progress = [&](double done, const std::string& what) {
      progress((static_cast<double>(i) + done) / count, what);
    };
    for (ComparePoint& point : run_points(session, {&plans[i], 1}, shapes, opened, options))
      points.push_back(std::move(point));
  }
  const auto shape_of = [&](const ComparePoint& point) {
    return std::find(shapes.begin(), shapes.end(),
                     TrialShape{point.trial.kind, point.trial.tokens, point.trial.context});
  };
  std::stable_sort(points.begin(), points.end(),
                   [&](const auto& a, const auto& b) { return shape_of(a) < shape_of(b); });
  return points;
}

Comparison compare(const CompareArgs& args, Session& session) {
  auto plans = make_plans(args, session);
  for (NamedPlan& plan : plans) plan.plan.kv_dtype = session.plan.kv_dtype;
  const auto shapes = make_shapes(args, session);
  const ExecutorOptions opened = executor_options(session, shapes, args);
  Progress progress(args.out.progress());
  TrialOptions options = args.trials;
  options.progress = [&](double done, const std::string& what) { progress.update(done, what); };
  session.plan = plans.front().plan;
  ExecutorOptions together = opened;
  for (const NamedPlan& plan : plans) together.other_plans.push_back(plan.plan);
  if (plans.size() > 1 && !has_memory(session, together))
    return {run_in_turns(session, plans, shapes, opened, options), true};
  return {run_points(session, plans, shapes, opened, options), false};
}

void run_command(const CompareArgs& args) {
  check_args(args);
  const SessionArgs& inputs = args.session;
  if (!args.output.empty())
    prepare_output(args.output, {inputs.model.model, inputs.machine.machine, inputs.plan});
  Session session = open_wide_session(args);
  const auto [points, in_turns] = compare(args, session);
  const CompareSummary summary = summarize(points);
  Json json = {{"version", 1},
               {"model", session.model->spec.name},
               {"dtype", dtype_name(session.model->spec)},
               {"machine", session.machine.machine.name},
               {"machine_fingerprint", session.machine.fingerprint},
               {"in_turns", in_turns}};
  json.update(compare_json(points, summary));
  if (!args.output.empty()) write_file_atomically(args.output, compare_yaml(json));
  if (args.out.json)
    print_json(json);
  else
    fmt::print("{}{}", compare_text(points, summary),
               in_turns
                   ? "plans ran one after another: there is no memory for all of them at once\n"
                   : "");
}

void add_measuring_options(CLI::App& app, CompareArgs& args) {
  app.add_option("--what", args.what, "what is timed: decode, prefill or both")
      ->check(CLI::IsMember({"decode", "prefill", "both"}))
      ->capture_default_str();
  app.add_option(
         "--contexts", args.contexts,
         "cached positions before a step or prompt (default: the plan's workload for decode, none "
         "for prefill)")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  app.add_option("--tokens", args.tokens, "tokens of a decode step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--prompt-tokens", args.prompt,
                 "tokens of a prefill (default: the plan's workload)")
      ->check(CLI::PositiveNumber);
  app.add_option("--repeat", args.trials.repeat, "counted runs of each point")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--max-seconds", args.trials.max_seconds,
                 "begin no run later than this; every point is run once nevertheless")
      ->check(CLI::PositiveNumber)
      ->check(finite_number())
      ->capture_default_str();
  app.add_option("--patience", args.trials.patience_s,
                 "nor after so many seconds without a counted run: the machine is in another state "
                 "than it was profiled in (default: for ever)")
      ->check(CLI::PositiveNumber);
}

}  // namespace

void add_compare_command(CLI::App& app, int&) {
  auto args = std::make_shared<CompareArgs>();
  CLI::App& command = *app.add_subcommand(
      "compare", "predicted beside measured time of many plans: errors, bests, regret");
  command.add_option("plans", args->plans, "plan files");
  command.add_option("--plan", args->session.plan,
                     "plan that a sweep starts from (default: searched)");
  command
      .add_option("--sweep", args->sweep,
                  "columns (in steps of 5 %), heads (of the first unit), context, or tokens (of a "
                  "step)")
      ->check(CLI::IsMember({"columns", "heads", "context", "tokens"}));
  command.add_option("--random-plans", args->random_plans, "compare so many random plans (--seed)")
      ->check(CLI::Range(0, 10000));
  add_session_options(command, args->session);
  add_budget_option(command, args->session.budgets);
  command.get_option("--seed")->description("of random plans and a shape's pseudo-random weights");
  add_measuring_options(command, *args);
  command.add_option("-o,--output", args->output, "file for the figures (YAML)");
  add_output_options(command, args->out);
  command.footer(
      "Example: tandem compare --model tinyllama-1.1b --sweep columns -o compare.yaml\n"
      "A run counts where the state probe before and after it is that of the profile.");
  command.callback([args] {
    // Plans name their model, so that --model need not be repeated.
    if (args->session.plan.empty() && !args->plans.empty())
      args->session.plan = args->plans.front();
    run_command(*args);
  });
}

}  // namespace tandem
