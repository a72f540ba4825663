// What the subcommands share: common options, the inputs they name, and figures as JSON.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "profiles/machine_profile.h"
#include "tuner/format.h"
#include "tuner/ledger.h"
#include "tuner/model_source.h"
#include "tuner/progress.h"
#include "tuner/table.h"
#include "tuner/trace.h"

namespace tandem {

using Json = nlohmann::ordered_json;  ///< keys come out in the order they were set

/// --model, --dtype, --seed.
struct ModelArgs {
  std::string model;
  std::string dtype;  ///< "" = a file's own, q4_0 for a shape
  uint64_t seed = 1;
};
/// Returns --model, so that a command can make it required.
CLI::Option* add_model_options(CLI::App& app, ModelArgs& args);
/// Error for an unknown dtype.
ModelSource model_source(const ModelArgs& args);

/// --machine, --set.
struct MachineArgs {
  std::string machine = "machine.yaml";
  std::vector<std::string> overrides;
};
CLI::Option* add_machine_options(CLI::App& app, MachineArgs& args);
/// Error naming the file, and `tandem profile` where there is none.
MachineProfile open_machine(const MachineArgs& args);

/// --budget of a search, see parse_budgets().
void add_budget_option(CLI::App& app, std::vector<std::string>& budgets);

/// --json, --quiet.
struct OutputArgs {
  bool json = false;
  bool quiet = false;
  bool progress() const { return !json && !quiet; }
};
void add_output_options(CLI::App& app, OutputArgs& args);

/// Error naming the option, the value and the dtypes there are.
DType parse_dtype_option(const std::string& option, const std::string& text);
/// Of `--kv`. Error unless it is a format that KV caches of the model can have.
DType parse_kv_dtype(const std::string& text, const ModelSpec& model);

/// What a plan records of `--model`: a file's absolute path, so that the plan may be read from
/// anywhere; a shape's name as it is.
std::string plan_source(const std::string& model);
/// The model a plan was made for, unless `args` names another; --dtype and --seed win likewise.
ModelSource source_of_plan(const std::string& plan_path, const ModelArgs& args);

/// Error where a step of `tokens` tokens at `context` passes the positions that the model was made
/// for.
void check_context(const ModelSpec& model, int64_t context, int64_t tokens);

/// The usual workload, cut to the positions that the model was made for.
Workload default_workload(const ModelSpec& model);

/// To be called before the work: Error where the folder of an output is missing or the output is no
/// file, rather than after minutes of work; and from here on Ctrl-C removes the output's temporary
/// file. Error too where it is one of `others`, files that the command reads or writes besides (""
/// = none).
void prepare_output(const std::string& path, std::initializer_list<std::string> others);
/// A check of options: "nan" passes every comparison that CLI11 makes.
const CLI::Validator& finite_number();

/// Pretty-printed on stdout, with a newline.
void print_json(const Json& json);
Json to_json(const Figure& figure);  ///< {median, spread}
Json to_json(const Rate& rate);      ///< {per_s, low, high}
Json to_json(const Prediction& prediction);
/// {steps, makespan_s, sync_share, units: {name: {busy_s, utilisation}}, stages: [{stage, unit,
/// tasks, busy_s, ...}]}
Json to_json(const Ledger& ledger, const std::vector<std::string>& units);

}  // namespace tandem
