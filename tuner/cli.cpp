#include "tuner/cli.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "kernels/error.h"
#include "kernels/kv_format.h"
#include "profiles/profile_yaml.h"
#include "tuner/dtype_mix.h"
#include "tuner/interrupt.h"
#include "tuner/plan_yaml.h"

namespace tandem {
namespace {

std::string dtype_names() {
  std::string names;
  for (const DTypeInfo& d : kDTypes) names += (names.empty() ? "" : ", ") + std::string(d.name);
  return names;
}

/// A dtype, or a mix of them.
void set_weights(ModelSource& source, const std::string& option, const std::string& text) {
  if (is_mix(text))
    source.mix = text;
  else
    source.dtype = parse_dtype_option(option, text);
}

}  // namespace

CLI::Option* add_model_options(CLI::App& app, ModelArgs& args) {
  std::string shapes;
  for (const std::string& shape : shape_names()) shapes += (shapes.empty() ? "" : ", ") + shape;
  app.add_option("--dtype", args.dtype,
                 fmt::format("element type of a shape's weights: {}, or a mix as downloaded: {} "
                             "(default: a file's own, q4_0 for a shape)",
                             dtype_names(), fmt::join(mix_names(), ", ")));
  app.add_option("--seed", args.seed, "seed of a shape's pseudo-random weights")
      ->capture_default_str();
  return app.add_option("--model", args.model,
                        "GGUF file, shape file (config.json keys in YAML), or one of " + shapes);
}

ModelSource model_source(const ModelArgs& args) {
  ModelSource source{.model = args.model, .dtype = {}, .seed = args.seed};
  if (!args.dtype.empty()) set_weights(source, "--dtype", args.dtype);
  return source;
}

CLI::Option* add_machine_options(CLI::App& app, MachineArgs& args) {
  app.add_option("--set", args.overrides,
                 "change a figure of the profile, e.g. units.cpu0.dram_read_per_s.median=80e9; "
                 "repeatable")
      ->allow_extra_args(false);
  return app.add_option("--machine", args.machine, "profile that `tandem profile` wrote")
      ->capture_default_str();
}

void add_budget_option(CLI::App& app, std::vector<std::string>& budgets) {
  app.add_option("--budget", budgets,
                 "memory a unit may use, e.g. cpu0=2GiB,gpu0=6GiB (default: the machine's, or the "
                 "GPU's); repeatable")
      ->allow_extra_args(false);
}

MachineProfile open_machine(const MachineArgs& args) {
  if (!std::filesystem::exists(args.machine))
    throw Error(fmt::format("{}: no such profile: write one with `tandem profile -o {}`",
                            args.machine, args.machine));
  return read_profile(args.machine, args.overrides);
}

void add_output_options(CLI::App& app, OutputArgs& args) {
  app.add_flag("--json", args.json, "print the figures as JSON (seconds, bytes, flop)");
  app.add_flag("--quiet", args.quiet, "show no progress");
}

DType parse_dtype_option(const std::string& option, const std::string& text) {
  if (const auto dtype = parse_dtype(text)) return *dtype;
  throw Error(
      fmt::format("{}: unknown dtype '{}', expected one of {}", option, text, dtype_names()));
}

DType parse_kv_dtype(const std::string& text, const ModelSpec& model) {
  const auto dtype = parse_dtype(text);
  if (!dtype || !is_kv_format(*dtype))
    throw Error(fmt::format("--kv: '{}' is no dtype of a KV cache, expected {}", text,
                            kv_format_names(model.head_dim)));
  const std::string problem = kv_format_problem(*dtype, model.head_dim);
  if (!problem.empty()) throw Error(fmt::format("--kv: {}", problem));
  return *dtype;
}

std::string plan_source(const std::string& model) {
  return std::filesystem::exists(model) ? std::filesystem::absolute(model).string() : model;
}

ModelSource source_of_plan(const std::string& plan_path, const ModelArgs& args) {
  ModelSource source = model_source(args);
  const Plan plan = read_plan_header(plan_path);
  if (!args.model.empty() && plan_source(args.model) != plan.model_source) return source;
  source.model = plan.model_source;
  if (args.dtype.empty()) set_weights(source, plan_path, plan.model_dtype);
  return source;
}

void check_context(const ModelSpec& model, int64_t context, int64_t tokens) {
  if (tokens > model.max_context || context > model.max_context - tokens)
    throw Error(fmt::format("{} tokens at context {} pass the {} positions of {}", tokens, context,
                            model.max_context, model.name));
}

Workload default_workload(const ModelSpec& model) {
  Workload workload;
  workload.context = std::min(workload.context, model.max_context - workload.tokens);
  workload.prompt = std::min(workload.prompt, model.max_context);
  return workload;
}

namespace {

/// Whether two names lead to one file, which need not be there yet.
bool same_file(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  std::error_code none;
  const auto whole = [&](const std::string& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path), none);
  };
  return std::filesystem::equivalent(a, b, none) || whole(a) == whole(b);
}

}  // namespace

const CLI::Validator& finite_number() {
  static const CLI::Validator check(
      [](const std::string& text) {
        const double value = std::strtod(text.c_str(), nullptr);
        return std::isfinite(value) ? std::string() : text + " is not a finite number";
      },
      "", "finite");
  return check;
}

void prepare_output(const std::string& path, std::initializer_list<std::string> others) {
  if (path.empty()) throw Error("output: the file's name is empty");
  for (const std::string& other : others)
    if (same_file(path, other))
      throw Error(fmt::format("{}: is also {}, which would be overwritten; give it another name",
                              path, other));
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  if (!std::filesystem::is_directory(folder))
    throw Error(fmt::format("{}: there is no folder {}", path, folder.string()));
  // The rename that ends a write would replace a device, /dev/null say, by a file.
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path))
    throw Error(fmt::format("{}: is a folder or a device, expected a file name", path));
  remove_on_interrupt(path);
}

void print_json(const Json& json) {
  // Generated text may end within a character: what is no UTF-8 is replaced.
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

Json to_json(const Figure& figure) {
  return {{"median", figure.median}, {"spread", figure.spread}};
}

Json to_json(const Rate& rate) {
  return {{"per_s", rate.per_s}, {"low", rate.low}, {"high", rate.high}};
}

Json to_json(const Prediction& prediction) {
  return {{"decode_tokens_per_s", to_json(prediction.decode_tokens_per_s)},
          {"prefill_tokens_per_s", to_json(prediction.prefill_tokens_per_s)},
          {"lower_bound_s", prediction.lower_bound_s},
          {"gap", prediction.gap}};
}

Json to_json(const Ledger& ledger, const std::vector<std::string>& units) {
  Json unit_times = Json::object();
  for (int i = 0; i < ledger.num_units; ++i)
    unit_times[units[static_cast<size_t>(i)]] = {{"busy_s", ledger.busy_s(i)},
                                                 {"utilisation", ledger.utilisation(i)}};
  Json stages = Json::array();
  for (const LedgerEntry& entry : ledger.entries) {
    stages.push_back({{"stage", name(entry.stage)},
                      {"unit", units[static_cast<size_t>(entry.unit)]},
                      {"tasks", entry.tasks},
                      {"busy_s", entry.busy_s},
                      {"bytes", entry.bytes},
                      {"flops", entry.flops}});
    if (entry.home == Home::kStreamed) stages.back()["home"] = "streamed";
  }
  return {{"steps", ledger.steps},
          {"makespan_s", ledger.makespan_s},
          {"sync_share", ledger.sync_share()},
          {"units", std::move(unit_times)},
          {"stages", std::move(stages)}};
}

}  // namespace tandem
