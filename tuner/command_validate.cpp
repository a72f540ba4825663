// tandem validate: proves a plan: logits against one unit, measured time against the prediction.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <optional>

#include "tuner/agreement.h"
#include "tuner/commands.h"
#include "tuner/plan_yaml.h"
#include "tuner/session.h"
#include "tuner/trial.h"

namespace tandem {
namespace {

constexpr int kOutside = 3;

struct ValidateArgs {
  SessionArgs session;
  std::optional<double> tolerance;
  TrialOptions trials{.max_seconds = 120, .progress = {}};
  OutputArgs out;
};

/// Measured rate of one kind of step beside the claim about it.
struct RateCheck {
  Trial trial;
  TrialRuns runs;
  std::optional<Rate> claimed;  ///< by the plan, else by the profile; none without either

  double measured_per_s() const { return static_cast<double>(trial.tokens) / runs.median_s(); }
  bool holds() const {
    return !claimed || (claimed->low <= measured_per_s() && measured_per_s() <= claimed->high);
  }
};

struct Validation {
  std::string reference;  ///< unit that the logits were compared with
  Agreement logits;
  std::vector<RateCheck> rates;  ///< decode, prefill
  std::string state;

  bool holds() const {
    return logits.holds() &&
           std::all_of(rates.begin(), rates.end(), [](const RateCheck& r) { return r.holds(); });
  }
};

std::vector<Trial> make_trials(const Plan& plan) {
  const Workload& work = plan.workload;
  return {{.label = "decode",
           .plan = &plan,
           .kind = TrialKind::kDecode,
           .tokens = work.tokens,
           .context = work.context},
          {.label = "prefill",
           .plan = &plan,
           .kind = TrialKind::kPrefill,
           .tokens = work.prompt,
           .context = 0}};
}

std::optional<Rate> claim(const Session& session, const Trial& trial, int64_t max_tokens) {
  const auto& predicted = session.plan.predicted;
  if (predicted)
    return trial.kind == TrialKind::kDecode ? predicted->decode_tokens_per_s
                                            : predicted->prefill_tokens_per_s;
  if (!session.measured) return std::nullopt;
  const TrialPrediction p = predict(session.model->spec, session.machine, trial, max_tokens);
  const auto tokens = static_cast<double>(trial.tokens);
  return Rate{tokens / p.seconds, tokens / p.interval.high_s, tokens / p.interval.low_s};
}

/// As the workload says, with the last step within what the model was made for.
AgreementInput agreement_input(const ModelSpec& model, const Workload& work) {
  AgreementInput input;
  input.prompt = std::min(work.prompt, input.prompt);
  input.context = std::max<int64_t>(0, std::min(work.context, model.max_context - input.steps));
  return input;
}

/// Everything on one unit, the first that has the memory for it beside the plan.
Plan reference_for(const Session& session, ExecutorOptions options) {
  Plan alone;
  for (int unit = 0; unit < static_cast<int>(session.units.size()); ++unit) {
    alone = single_unit_plan(session.model->spec, session.plan.units, unit);
    alone.kv_dtype = session.plan.kv_dtype;
    options.other_plans = {alone};
    if (has_memory(session, options)) break;
  }
  return alone;
}

ExecutorOptions options_of(const Session& session, const TrialOptions& trials) {
  const Workload& work = session.plan.workload;
  const ModelSpec& model = session.model->spec;
  const AgreementInput input = agreement_input(model, work);
  check_context(model, work.context, work.tokens);
  check_context(model, 0, work.prompt);
  ExecutorOptions options;
  options.spans = false;
  options.max_context =
      std::max({work.prompt, work.context + work.tokens, input.context + input.steps});
  options.max_tokens = std::max(work.tokens, std::min(work.prompt, trials.max_tokens));
  options.max_logits_rows = work.tokens;
  options.other_plans = {reference_for(session, options)};
  return options;
}

Validation validate(const ValidateArgs& args, const Session& session) {
  const ModelSpec& model = session.model->spec;
  const ExecutorOptions opened = options_of(session, args.trials);
  const Plan& reference = opened.other_plans.front();
  const auto executor = open_executor(session, opened);
  Validation validation;
  validation.reference = reference.units[static_cast<size_t>(reference.embedding)];
  validation.logits = check_agreement(*executor, model, session.plan, reference, session.units,
                                      agreement_input(model, session.plan.workload));
  if (args.tolerance) {
    validation.logits.must_be_identical = false;
    validation.logits.tolerance = *args.tolerance;
  }
  const auto trials = make_trials(session.plan);
  StateGate gate(session.machine);
  Progress progress(args.out.progress());
  TrialOptions options = args.trials;
  options.progress = [&](double done, const std::string& what) { progress.update(done, what); };
  const auto runs = run_trials(*executor, model, trials, gate, options);
  for (size_t i = 0; i < trials.size(); ++i)
    validation.rates.push_back({trials[i], runs[i], claim(session, trials[i], options.max_tokens)});
  validation.state = gate.state();
  return validation;
}

const char* verdict(bool holds) { return holds ? "inside" : "OUTSIDE"; }

std::string logits_text(const Agreement& logits, const std::string& unit) {
  if (logits.identical)
    return fmt::format("logits: {} rows, identical to {} alone\n", logits.rows, unit);
  return fmt::format("logits: {} rows, relative error {:.1e} against {} alone, {}: {}\n",
                     logits.rows, logits.relative_error, unit,
                     logits.must_be_identical ? "must be identical"
                                              : fmt::format("tolerance {:.1e}", logits.tolerance),
                     verdict(logits.holds()));
}

std::string rate_text(const RateCheck& check) {
  const Trial& trial = check.trial;
  const size_t counted = check.runs.counted_s.size();
  std::string text = fmt::format("{} of {} tokens at context {}: measured {:.2f} tokens/s",
                                 trial.label, trial.tokens, trial.context, check.measured_per_s());
  text += check.claimed ? fmt::format(", predicted {}: {}", format_rate(*check.claimed),
                                      verdict(check.holds()))
                        : ", not predicted";
  text += fmt::format("\n  {} runs counted, {} left out (the machine was in another state){}\n",
                      counted, check.runs.left_out_s.size(),
                      counted == 0 ? ": the figure is of those" : "");
  return text;
}

Json validation_json(const Validation& validation) {
  const Agreement& logits = validation.logits;
  Json json = {{"holds", validation.holds()},
               {"logits",
                {{"reference", validation.reference},
                 {"rows", logits.rows},
                 {"identical", logits.identical},
                 {"must_be_identical", logits.must_be_identical},
                 {"relative_error", logits.relative_error},
                 {"tolerance", logits.tolerance},
                 {"holds", logits.holds()}}},
               {"state", validation.state}};
  for (const RateCheck& check : validation.rates) {
    Json rate = {{"tokens", check.trial.tokens},
                 {"context", check.trial.context},
                 {"measured_tokens_per_s", check.measured_per_s()},
                 {"runs", check.runs.counted_s.size()},
                 {"left_out", check.runs.left_out_s.size()},
                 {"holds", check.holds()}};
    if (check.claimed) rate["predicted"] = to_json(*check.claimed);
    json[check.trial.label] = rate;
  }
  return json;
}

/// Writes `measured:` into the plan as it was read, whatever options said otherwise for this run.
void write_measurement(const Validation& validation, const ModelSpec& model,
                       const std::string& path) {
  Plan plan = read_plan(path, model);
  plan.measured = Measurement{.decode_tokens_per_s = validation.rates[0].measured_per_s(),
                              .prefill_tokens_per_s = validation.rates[1].measured_per_s(),
                              .date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))),
                              .state = validation.state};
  write_plan(plan, model, path);
}

void run_command(const ValidateArgs& args, int& exit_code) {
  const std::string& path = args.session.plan;
  prepare_output(path, {args.session.model.model, args.session.machine.machine});
  const Session session = open_session(args.session);
  const Validation validation = validate(args, session);
  // Figures of another model or machine are not the plan's.
  if (!args.session.force) write_measurement(validation, session.model->spec, path);
  if (!validation.holds()) exit_code = kOutside;
  if (args.out.json) return print_json(validation_json(validation));
  fmt::print("{}", logits_text(validation.logits, validation.reference));
  for (const RateCheck& check : validation.rates) fmt::print("{}", rate_text(check));
  fmt::print("{}: {}\n", path,
             args.session.force ? "not written (--force)" : "measured figures written");
}

}  // namespace

void add_validate_command(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<ValidateArgs>();
  CLI::App& command = *app.add_subcommand(
      "validate", "prove a plan: its logits against one unit, its time against the prediction");
  command.add_option("plan", args->session.plan, "plan file; its `measured:` is written")
      ->required();
  add_session_options(command, args->session);
  command
      .add_option("--tolerance", args->tolerance,
                  "relative error of logits that is allowed (default: none for column and head "
                  "splits over one kernel set, else the rounding of the model's dtypes)")
      ->check(CLI::NonNegativeNumber)
      ->check(finite_number());
  command.add_option("--repeat", args->trials.repeat, "counted runs of decode and of prefill")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command.add_option("--max-seconds", args->trials.max_seconds, "begin no run later than this")
      ->check(CLI::PositiveNumber)
      ->check(finite_number())
      ->capture_default_str();
  add_output_options(command, args->out);
  command.footer(
      "Example: tandem validate plan.yaml\n"
      "Exit code 3 where the logits or a measured rate are outside.");
  command.callback([args, &exit_code] { run_command(*args, exit_code); });
}

}  // namespace tandem
