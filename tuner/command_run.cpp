// tandem run: executes a plan, streams its text and prints predicted beside measured time.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "kernels/file.h"
#include "runtime/sampling.h"
#include "runtime/utf8.h"
#include "tuner/commands.h"
#include "tuner/run_record.h"
#include "tuner/session.h"
#include "tuner/token_input.h"
#include "tuner/trial.h"

namespace tandem {
namespace {

constexpr int64_t kLargestStep = 512;

struct RunArgs {
  SessionArgs session;
  TokenInputArgs input;
  SamplingOptions sampling;
  OutputArgs output;
  int64_t new_tokens = 64;
  std::string logits;
  std::string trace;
};

/// Everything a run needs, checked; what it needs to be told lies in `args`.
struct Run {
  const RunArgs& args;
  Session session;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null: ids only
  Utf8Stream printed_text;
  TokenSampler sampler;
  std::vector<int32_t> input;
  std::unique_ptr<Executor> executor;
};

Run prepare(const RunArgs& args) {
  check_token_input(args.input);
  const auto prepare_unless_empty = [&](const std::string& path, const std::string& other) {
    const SessionArgs& inputs = args.session;
    if (!path.empty())
      prepare_output(path, {inputs.model.model, inputs.machine.machine, inputs.plan, other});
  };
  prepare_unless_empty(args.logits, args.trace);
  prepare_unless_empty(args.trace, args.logits);
  Run run{.args = args,
          .session = {},
          .tokenizer = {},
          .printed_text = {},
          .sampler = TokenSampler(args.sampling),
          .input = {},
          .executor = {}};
  std::optional<int64_t> depth;
  if (args.input.context > 0) depth = args.input.context;
  run.session = open_session(args.session, depth);
  std::string why;
  run.tokenizer = open_tokenizer(*run.session.model, why);
  run.input = input_tokens(args.input, run.session.model->spec, args.session.model.seed,
                           run.tokenizer.get(), why);
  return run;
}

void open(Run& run) {
  const auto input = std::ssize(run.input);
  check_context(run.session.model->spec, run.args.input.context, input + run.args.new_tokens);
  ExecutorOptions options;
  options.max_context = run.args.input.context + input + run.args.new_tokens;
  options.max_tokens = std::min(kLargestStep, input);
  options.max_logits_rows = run.args.logits.empty() ? 1 : options.max_tokens;
  Progress progress(run.args.output.progress());
  options.progress = [&](int64_t placed, int64_t all) {
    progress.update(static_cast<double>(placed) / static_cast<double>(all), "placing weights");
  };
  run.executor = open_executor(run.session, options);
  if (run.args.input.context > 0)
    run.executor->set_context(run.args.input.context, run.args.session.model.seed);
}

void print_now(std::string_view text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

/// Text where there is a tokenizer, in whole characters, else ids.
void print_token(Run& run, int32_t token) {
  print_now(run.tokenizer ? run.printed_text.add(run.tokenizer->piece(token))
                          : fmt::format("{} ", token));
}

GenerateResult generate(Run& run, RunRecord& record) {
  GenerateOptions options;
  options.new_tokens = run.args.new_tokens;
  options.max_tokens = std::min(kLargestStep, std::ssize(run.input));
  options.all_logits = !run.args.logits.empty();
  options.on_step = [&](const StepRun& step) { record.add(step); };
  if (run.args.sampling.temperature > 0)
    options.choose = [&](std::span<const float> logits) { return run.sampler.next(logits); };
  // Random input asks for time, not text: it is not cut short by a token that happens to end it.
  if (run.tokenizer && run.args.input.is_text())
    options.is_end = [&](int32_t token) { return run.tokenizer->is_end(token); };
  if (!run.args.output.json && run.args.input.is_text())
    options.on_token = [&](int32_t token) { print_token(run, token); };
  GenerateResult result = generate(*run.executor, run.input, options);
  print_now(run.printed_text.finish());
  return result;
}

void write_files(const Run& run, const RunRecord& record) {
  if (!run.args.logits.empty()) {
    const auto* bytes = reinterpret_cast<const char*>(record.logits.data());
    write_file_atomically(run.args.logits, {bytes, record.logits.size() * sizeof(float)});
  }
  if (!run.args.trace.empty())
    write_trace(run.args.trace, record.last_graph, record.last_timeline, run.session.plan.units);
}

LedgerComparison comparison(const Run& run, const StepRecord& record) {
  const Session& session = run.session;
  return session.measured
             ? compare_steps(record, session.model->spec, session.plan, session.machine)
             : compare_steps(record);
}

void print_steps(const Run& run, const char* title, const StepTimes& times,
                 const StepRecord& record) {
  if (times.step_s.empty()) return;
  fmt::print("\n{}: {} tokens in {}, {:.2f} tokens/s, median step {}\n", title, times.tokens,
             format_seconds(times.total_s()), times.tokens_per_s(),
             format_seconds(times.median_s()));
  fmt::print("{}", ledger_text(comparison(run, record), run.session.plan.units, title));
}

/// Where the machine is not as it was profiled, predictions are of another machine.
void print_state(const Conditions& profiled, StateGate& gate) {
  if (profiled.probe.dram_read_per_s <= 0) return;
  const bool same = gate.matches();
  fmt::print("\nstate: {}, {}; profiled {}, {}{}\n", gate.state(), format_probe(gate.last_probe()),
             profiled.state, format_probe(profiled.probe),
             same ? "" : ": not the machine that was predicted; `tandem profile` again, or wait");
}

void print_report(const Run& run, const RunRecord& record, const GenerateResult& result) {
  if (run.args.input.is_text() && !result.tokens.empty()) fmt::print("\n");
  if (run.args.output.quiet) return;
  print_steps(run, "prefill", result.prefill, record.prefill);
  print_steps(run, "decode", result.decode, record.decode);
  if (run.session.measured) {
    StateGate gate(run.session.machine);
    print_state(run.session.machine.conditions, gate);
  } else {
    fmt::print("\nno prediction: no profile of this machine; `tandem profile` writes one\n");
  }
}

Json steps_json(const Run& run, const StepTimes& times, const StepRecord& record) {
  Json json = {{"tokens", times.tokens},
               {"seconds", times.total_s()},
               {"tokens_per_s", times.tokens_per_s()},
               {"median_step_s", times.median_s()}};
  if (!times.step_s.empty())
    json["ledger"] = to_json(comparison(run, record), run.session.plan.units);
  return json;
}

Json report_json(const Run& run, const RunRecord& record, const GenerateResult& result) {
  Json json = {{"model", run.session.model->spec.name},
               {"units", run.session.plan.units},
               {"input_tokens", run.input},
               {"tokens", result.tokens}};
  if (run.tokenizer) {
    std::string text;
    for (const int32_t token : result.tokens) text += run.tokenizer->piece(token);
    json["text"] = text;
  }
  json["prefill"] = steps_json(run, result.prefill, record.prefill);
  json["decode"] = steps_json(run, result.decode, record.decode);
  return json;
}

void run_command(const RunArgs& args) {
  Run run = prepare(args);
  open(run);
  RunRecord record;
  record.keep_logits = !args.logits.empty();
  record.keep_last = !args.trace.empty();
  const GenerateResult result = generate(run, record);
  write_files(run, record);
  if (args.output.json)
    print_json(report_json(run, record, result));
  else
    print_report(run, record, result);
}

void add_sampling_options(CLI::App& app, SamplingOptions& options) {
  app.add_option("--temperature", options.temperature, "0 = always the likeliest token")
      ->capture_default_str();
  app.add_option("--top-k", options.top_k, "draw from the so many likeliest tokens, 0 = all")
      ->capture_default_str();
  app.add_option("--top-p", options.top_p, "draw from the fewest tokens of this probability")
      ->capture_default_str();
}

}  // namespace

void add_run_command(CLI::App& app, int&) {
  auto args = std::make_shared<RunArgs>();
  CLI::App& command = *app.add_subcommand(
      "run", "execute a plan: text, tokens/s, predicted beside measured time of every stage");
  add_session_options(command, args->session);
  add_budget_option(command, args->session.budgets);
  command.get_option("--seed")->description(
      "of sampled tokens, random input and a shape's pseudo-random weights");
  command.add_option("--plan", args->session.plan,
                     "plan to execute (default: searched where there is a profile, else the "
                     "machine as one unit)");
  add_token_input_options(command, args->input);
  command.add_option("-n,--new-tokens", args->new_tokens, "tokens to generate at most")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->capture_default_str();
  add_sampling_options(command, args->sampling);
  command.add_option("--logits", args->logits,
                     "file for the logits: float32 [rows x vocabulary], a row per input token, "
                     "then per new token");
  command.add_option("--trace", args->trace, "file for a Perfetto trace of the last step");
  add_output_options(command, args->output);
  command.get_option("--quiet")->description("print the text only");
  command.footer("Example: tandem run --model x.gguf --plan plan.yaml --prompt 'Once' -n 32");
  command.callback([args] {
    args->sampling.seed = args->session.model.seed;
    run_command(*args);
  });
}

}  // namespace tandem
