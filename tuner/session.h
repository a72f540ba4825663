// What run, validate and compare start from: a checked plan for a model on this machine, and the
// executor of it. Nothing large is allocated before everything was checked.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/executor.h"
#include "tuner/cli.h"

namespace tandem {

struct SessionArgs {
  ModelArgs model;
  MachineArgs machine;
  std::string plan;  ///< file; "" = searched where there is a profile, else all on the first unit
  std::vector<std::string> budgets;  ///< "gpu0=6GiB", of the search
  std::string kv;                    ///< f16 or f32; "" = as the plan says
  bool force = false;                ///< run a plan or profile that was made for something else
};

/// --model, --dtype, --seed, --machine, --set, --kv and --force; --plan is each command's own.
void add_session_options(CLI::App& app, SessionArgs& args);

struct Session {
  std::unique_ptr<Model> model;  ///< outlives the executor; its weights are read as they are placed
  MachineProfile machine;        ///< the profile, or only this machine and its units
  bool measured = false;         ///< `machine` has figures, so that steps can be predicted
  Plan plan;
  std::vector<Unit> units;  ///< those of plan.units, in its order
};

/// A missing plan is searched for decoding at `context`, or at the usual one. Error for a plan or
/// profile of another model or machine (unless forced), and for a unit that the machine lacks.
Session open_session(const SessionArgs& args, std::optional<int64_t> context = {});

/// Reads another plan for the model and machine of the session, with the session's unit order.
/// Error as above.
Plan read_session_plan(const Session& session, const std::string& path, bool force);

/// Whether there is the memory that the session's plan and options.other_plans need.
bool has_memory(const Session& session, const ExecutorOptions& options);

/// Error where there is not; only then weights are placed.
std::unique_ptr<Executor> open_executor(const Session& session, const ExecutorOptions& options);

}  // namespace tandem
