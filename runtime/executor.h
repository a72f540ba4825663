// Runs a plan: one driver per unit walks its own tasks of the lowered graph and waits on flags of
// the others.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "profiles/machine_profile.h"
#include "runtime/model.h"
#include "sim/plan.h"
#include "sim/task_graph.h"

namespace tandem {

struct ExecutorOptions {
  int64_t max_context = 4096;  ///< positions the caches hold
  int64_t max_tokens = 512;    ///< tokens of the largest step
  int64_t max_logits_rows = 1;
  bool release_source = true;          ///< give pages of the source back as they are placed
  std::vector<Plan> other_plans = {};  ///< that set_plan() may be given, of the same units
  /// Every task gets a span in the timeline; a unit that enqueues pays two launches for it.
  /// Without, such a unit has one of its last task alone, which is when its step ends.
  bool spans = true;
  std::function<void(int64_t placed_bytes, int64_t all_bytes)> progress;
};

/// Chooses the next token and which rows of the step are kept. Called by the driver that holds the
/// sample task, on its thread; must not throw. `logits` is [rows x
/// vocab_size]; returns row indices to commit, ascending.
using Sampler = std::function<std::vector<int32_t>(std::span<const float> logits, int64_t rows)>;

/// Where a unit's bytes went: those of its own memory, which is the host's where it is a CPU unit.
struct MemoryUse {
  int64_t weights = 0;
  int64_t kv = 0;
  int64_t workspace = 0;
  int64_t host =
      0;  ///< that a CUDA unit holds in the host's memory, weights that it streams among it

  int64_t own() const { return weights + kv + workspace; }
};

class Executor {
 public:
  /// `units` are those of plan.units, in its order. Places weights and allocates everything that a
  /// step needs.
  Executor(const Model& model, const Plan& plan, const std::vector<Unit>& units,
           const ExecutorOptions& options);
  ~Executor();

  /// Goes on with the first plan or one of options.other_plans: their weights lie here. The caches
  /// are empty then.
  void set_plan(const Plan& plan);

  /// One forward pass over token_ids; step.tokens == token_ids.size(), step.context == context().
  /// Logits of the last step.logits_rows tokens are in logits() afterwards. An empty sampler keeps
  /// every row; step.sampled is set here.
  const Timeline& run(const Step& step, std::span<const int32_t> token_ids,
                      const Sampler& sampler = {});

  std::span<const float> logits() const;  ///< [logits_rows x vocab_size] of the last run
  int32_t argmax() const;                 ///< of the last logits row, where there was no sampler
  TaskGraph graph() const;                ///< of the last run
  int64_t context() const;                ///< positions in the caches
  /// Forgets positions at and beyond `context`, or fills up to it with seeded values (decode at
  /// depth, no prefill).
  void set_context(int64_t context, uint64_t seed = 1);
  std::vector<MemoryUse> memory() const;  ///< per unit

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem
