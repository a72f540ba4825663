// The drivers: each walks its unit's tasks in graph order and waits on the flags of other units'
// tasks.
#include "runtime/executor.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <numeric>
#include <thread>
#include <utility>

#include "kernels/error.h"
#include "kernels/flag.h"
#include "kernels/team.h"
#include "profiles/probe.h"
#include "runtime/memory_needs.h"
#include "runtime/placement.h"
#include "runtime/resident_columns.h"
#include "runtime/task_runner.h"

namespace tandem {
namespace {

using Clock = std::chrono::steady_clock;

/// A lowered step in the form that drivers walk. Which tasks there are depends on the step's shape
/// and on which parts of the context it reaches, not on how deep it is, so a decode loop reuses one
/// program.
struct Program {
  Step shape;
  std::vector<bool> reached;  ///< see reached_parts()
  const Phase* phase = nullptr;
  TaskGraph graph;
  std::vector<std::vector<int>> tasks{};  ///< [unit] ids in order
  std::vector<std::vector<int>> waits{};  ///< [task] tasks of other units that it depends on
  std::vector<std::vector<const float*>>
      states{};  ///< [task] that a merge merges, ascending in position
};

/// Two bits per part: it has cached positions to attend, and it is home of positions that this step
/// adds.
std::vector<bool> reached_parts(const Phase& phase, const Step& step) {
  const Range added{step.context, step.context + step.tokens};
  std::vector<bool> reached;
  for (const LayerPlan& layers : phase.layers)
    for (const AttentionPart& part : layers.attention) {
      reached.push_back(!intersect(part.context, {0, step.context}).empty());
      reached.push_back(!intersect(part.context, added).empty());
    }
  return reached;
}

Program make_program(const ModelSpec& model, const Plan& plan, const Step& step,
                     const StepBuffers& buffers) {
  const Phase& phase = phase_for(plan, step.tokens, step.context);
  Program program{.shape = step,
                  .reached = reached_parts(phase, step),
                  .phase = &phase,
                  .graph = lower(model, plan, step)};
  program.tasks.resize(plan.units.size());
  program.waits.resize(program.graph.tasks.size());
  program.states.resize(program.graph.tasks.size());
  for (const Task& task : program.graph.tasks) {
    program.tasks[static_cast<size_t>(task.unit)].push_back(task.id);
    for (const int dep : task.deps)
      if (program.graph.tasks[static_cast<size_t>(dep)].unit != task.unit)
        program.waits[static_cast<size_t>(task.id)].push_back(dep);
    if (task.stage != Stage::kMerge) continue;
    for (const int dep : task.deps) {  // lowering lists them in order of position
      const int part = program.graph.tasks[static_cast<size_t>(dep)].part;
      program.states[static_cast<size_t>(task.id)].push_back(
          buffers.states[static_cast<size_t>(part)].data());
    }
  }
  return program;
}

bool same_shape(const Program& program, const Plan& plan, const Step& step) {
  const Phase& phase = phase_for(plan, step.tokens, step.context);
  return program.phase == &phase && program.shape.tokens == step.tokens &&
         program.shape.logits_rows == step.logits_rows && program.shape.parents == step.parents &&
         program.reached == reached_parts(phase, step);
}

/// Two units on one core, or a team larger than its cores: spinning would keep the other from
/// running.
bool cores_are_shared(const std::vector<Unit>& units) {
  std::vector<int> cores;
  for (const Unit& unit : units) cores.insert(cores.end(), unit.cores.begin(), unit.cores.end());
  std::sort(cores.begin(), cores.end());
  return std::adjacent_find(cores.begin(), cores.end()) != cores.end();
}

}  // namespace

struct Executor::State {
  const Model& model;
  Plan plan;
  ExecutorOptions options;
  std::vector<int> memory_of;
  bool yield;
  cpu_set_t affinity;  ///< of the caller, who drives unit 0; given back at the end
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<PlacedWeights> weights;    ///< per memory
  std::vector<std::vector<LayerKv>> kv;  ///< [unit][layer]
  StepBuffers buffers;
  int64_t context = 0;

  std::vector<Program> programs;
  size_t program = 0;  ///< of the last run
  Step step;           ///< the last run
  Sampler sampler;
  int32_t argmax = 0;
  std::vector<int32_t> accepted;
  Timeline timeline;
  Clock::time_point start;

  std::vector<Flag> task_done;  ///< [task]
  std::vector<Flag> unit_done;  ///< [unit]
  alignas(64) std::atomic<uint32_t> number{
      0};  ///< of the running step; drivers start when it changes
  std::atomic<bool> stop{false};
  std::vector<std::thread> drivers;  ///< of units 1, 2, ...

  State(const Model& m, Plan p, const std::vector<Unit>& units, const ExecutorOptions& o)
      : model(m),
        plan(std::move(p)),
        options(o),
        memory_of(number_memories(units)),
        yield(cores_are_shared(units)),
        unit_done(units.size()) {
    sched_getaffinity(0, sizeof affinity, &affinity);
    for (const Unit& unit : units) devices.push_back(open_device(unit, yield));
    weights = place_weights(model, plan, devices, memory_of,
                            {.whole = options.resident_all,
                             .release = options.release_source,
                             .progress = options.progress});
    adopt_plan(plan);
    for (size_t unit = 1; unit < devices.size(); ++unit) {
      drivers.emplace_back([this, unit] { drive(unit); });
      pin_thread(drivers.back(), units[unit].cores.front());
    }
  }

  ~State() {
    stop.store(true);
    number.fetch_add(1);
    number.notify_all();
    for (std::thread& driver : drivers) driver.join();
    sched_setaffinity(0, sizeof affinity, &affinity);
  }

  /// Everything that depends on the plan but not on its weights. Programs point into the plan: they
  /// go first, and an exception leaves none that fit neither.
  void adopt_plan(const Plan& next) {
    programs.clear();
    context = 0;
    kv = place_kv(model, next, devices, options.max_context);
    buffers =
        allocate_buffers(model.spec, next, *devices.front(),
                         {.tokens = options.max_tokens, .logits_rows = options.max_logits_rows});
    plan = next;
    for (const auto& device : devices) device->reserve(device_limits(model.spec, options));
  }

  Program& current() { return programs[program]; }

  void check(const Step& s, std::span<const int32_t> token_ids) const {
    if (s.tokens > options.max_tokens || std::ssize(token_ids) != s.tokens)
      throw Error(fmt::format("step: {} tokens for {} token ids; expected as many, at most {}",
                              s.tokens, token_ids.size(), options.max_tokens));
    if (s.context != context)
      throw Error(
          fmt::format("step: context {}, but the caches hold {} positions", s.context, context));
    if (s.context + s.tokens > options.max_context)
      throw Error(
          fmt::format("context: {} positions and {} new tokens exceed the {} that were asked for",
                      s.context, s.tokens, options.max_context));
    if (s.logits_rows > options.max_logits_rows)
      throw Error(fmt::format("step: {} logits rows, but room for {}", s.logits_rows,
                              options.max_logits_rows));
    for (int32_t id : token_ids)
      if (id < 0 || id >= model.spec.vocab_size)
        throw Error(fmt::format("token id {}: the vocabulary has {}", id, model.spec.vocab_size));
    if (!s.parents.empty() && (!sampler || s.logits_rows == 0))
      throw Error("step: a tree of tokens needs logits and a sampler that accepts one path");
  }

  void choose_program() {
    const auto found = std::find_if(programs.begin(), programs.end(),
                                    [&](const Program& p) { return same_shape(p, plan, step); });
    program = static_cast<size_t>(found - programs.begin());
    if (found != programs.end()) return;
    programs.push_back(make_program(model.spec, plan, step, buffers));
    if (task_done.size() < current().graph.tasks.size())
      task_done = std::vector<Flag>(current().graph.tasks.size());
  }

  const Timeline& run(const Step& s, std::span<const int32_t> token_ids, const Sampler& chosen_by) {
    sampler = chosen_by;
    check(s, token_ids);
    step = s;
    choose_program();
    prepare_step(step, token_ids, buffers);
    accepted.resize(static_cast<size_t>(step.tokens));
    std::iota(accepted.begin(), accepted.end(), 0);
    timeline.origin = Timeline::Origin::kMeasured;
    timeline.spans.resize(current().graph.tasks.size());
    start = Clock::now();
    const uint32_t this_step = number.load() + 1;
    // Sequentially consistent: notify_all() looks for sleepers, and must not look before they can
    // see the number.
    number.store(this_step);
    number.notify_all();
    walk(0, this_step);
    for (size_t unit = 1; unit < devices.size(); ++unit)
      while (!unit_done[unit].raised(this_step)) relax(yield);
    timeline.makespan_s = 0;
    for (const Span& span : timeline.spans)
      timeline.makespan_s = std::max(timeline.makespan_s, span.end_s);
    context += std::ssize(accepted);
    return timeline;
  }

  /// A driver thread: spins a while between steps, then sleeps.
  void drive(size_t unit) {
    for (uint32_t seen = 0;;) {
      for (int idle = 0; number.load(std::memory_order_acquire) == seen; ++idle)
        if (yield || idle > kIdleSpins) {
          number.wait(seen);
        } else {
          relax(yield);
        }
      if (stop.load()) return;
      seen = number.load(std::memory_order_acquire);
      walk(unit, seen);
      unit_done[unit].raise(seen);
    }
  }

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start).count(); }

  void walk(size_t unit, uint32_t this_step) noexcept {
    Device& device = *devices[unit];
    device.begin_step();
    for (const int id : current().tasks[unit]) {
      const auto i = static_cast<size_t>(id);
      for (const int other : current().waits[i])
        while (!task_done[static_cast<size_t>(other)].raised(this_step)) relax(yield);
      const Task& task = current().graph.tasks[i];
      const double begun = seconds();
      perform(device, task);
      timeline.spans[i] = {id, static_cast<int>(unit), begun, seconds()};
      task_done[i].raise(this_step);
    }
    device.end_step();
  }

  void perform(Device& device, const Task& task) {
    const auto unit = static_cast<size_t>(task.unit);
    if (task.stage == Stage::kSample) {
      const std::span<const float> all = logits();
      argmax = device.argmax(all.last(static_cast<size_t>(model.spec.vocab_size)).data(),
                             model.spec.vocab_size);
      if (sampler) accepted = sampler(all, step.logits_rows);
      return;
    }
    run_task(device, task,
             {.model = model,
              .plan = plan,
              .layer_plans = *current().phase,
              .weights = weights[static_cast<size_t>(memory_of[unit])],
              .kv = kv[unit],
              .buffers = buffers,
              .step = step,
              .states = current().states[static_cast<size_t>(task.id)],
              .accepted = accepted});
  }

  std::span<const float> logits() const {
    return {buffers.logits.data(), static_cast<size_t>(step.logits_rows * model.spec.vocab_size)};
  }
};

Executor::Executor(const Model& model, const Plan& plan, const std::vector<Unit>& units,
                   const ExecutorOptions& options)
    : state_(std::make_unique<State>(model, plan, units, options)) {}
Executor::~Executor() = default;

const Timeline& Executor::run(const Step& step, std::span<const int32_t> token_ids,
                              const Sampler& sampler) {
  return state_->run(step, token_ids, sampler);
}

void Executor::set_plan(const Plan& plan) {
  assert(state_->options.resident_all);
  state_->adopt_plan(plan);
}

std::span<const float> Executor::logits() const { return state_->logits(); }
int32_t Executor::argmax() const { return state_->argmax; }
int64_t Executor::context() const { return state_->context; }

TaskGraph Executor::graph() const { return lower(state_->model.spec, state_->plan, state_->step); }

void Executor::set_context(int64_t context, uint64_t seed) {
  if (context > state_->options.max_context)
    throw Error(fmt::format("context: {} exceeds the {} positions that were asked for", context,
                            state_->options.max_context));
  if (context > state_->context) fill_kv(state_->kv, context, seed);
  state_->context = context;
}

std::vector<MemoryUse> Executor::memory() const {
  const State& s = *state_;
  std::vector<MemoryUse> uses(s.devices.size());
  const std::vector<int64_t> weights =
      held_weights(s.model, s.plan, {s.memory_of, s.options.resident_all}, s.weights);
  for (size_t unit = 0; unit < uses.size(); ++unit) {
    uses[unit].weights = weights[unit];
    for (const LayerKv& layer : s.kv[unit])
      for (const PlacedKv& home : layer) uses[unit].kv += kv_bytes(home.view);
    uses[unit].workspace = s.devices[unit]->workspace_bytes();
  }
  uses.front().workspace += s.buffers.bytes();
  return uses;
}

}  // namespace tandem
