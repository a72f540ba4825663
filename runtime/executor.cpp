// The drivers: each walks its unit's tasks in graph order and waits on the flags of other units'
// tasks.
#include "runtime/executor.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "kernels/error.h"
#include "kernels/flag.h"
#include "kernels/team.h"
#include "profiles/probe.h"
#include "runtime/memory_needs.h"
#include "runtime/placement.h"
#include "runtime/program.h"
#include "runtime/resident_columns.h"
#include "runtime/task_runner.h"

namespace tandem {
namespace {

int64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::nanoseconds(now).count();
}

/// Two units on one core, or a team larger than its cores: spinning would keep the other from
/// running.
bool cores_are_shared(const std::vector<Unit>& units) {
  std::vector<int> cores;
  for (const Unit& unit : units) cores.insert(cores.end(), unit.cores.begin(), unit.cores.end());
  std::sort(cores.begin(), cores.end());
  return std::adjacent_find(cores.begin(), cores.end()) != cores.end();
}

/// Spins of a wait between looks at the device: some tens of microseconds.
constexpr int kCheckEvery = 1000;

}  // namespace

struct Executor::State {
  const Model& model;
  Plan plan;
  ExecutorOptions options;
  std::vector<int> memory_of;
  bool yield;
  cpu_set_t affinity;  ///< of the caller, who drives unit 0; given back at the end
  std::vector<std::unique_ptr<Device>> devices;
  uint64_t enqueues = 0;                    ///< bit u: unit u does
  std::vector<PlacedWeights> weights;       ///< per memory
  std::unique_ptr<ExchangeMemory> lasting;  ///< of vectors
  ModelVectors vectors;
  std::vector<std::vector<LayerKv>> kv;       ///< [unit][layer]
  std::unique_ptr<ExchangeMemory> exchanged;  ///< of buffers, flags and stamps
  StepBuffers buffers;
  int64_t context = 0;

  std::vector<Program> programs;
  uint64_t recordings = 0;  ///< given out
  size_t program = 0;       ///< of the last run
  Step step;                ///< the last run
  Sampler sampler;
  int32_t argmax = 0;
  int64_t kept = 0;  ///< rows that the sampler accepted
  Timeline timeline;

  std::span<Flag> flags;      ///< of the program with most of them
  std::span<int64_t> stamps;  ///< [task x 2] begin and end, ns
  int64_t start_ns = 0;
  alignas(64) std::atomic<uint32_t> number{
      0};  ///< of the running step; drivers start when it changes
  std::vector<std::atomic<uint32_t>> unit_done;  ///< [unit] number of the step it has finished
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  std::mutex failure_mutex;
  std::exception_ptr failure;        ///< the first
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
    for (size_t unit = 0; unit < devices.size(); ++unit)
      if (devices[unit]->enqueues()) enqueues |= uint64_t{1} << unit;
    weights = place_weights(model, plan, devices, memory_of,
                            {.whole = options.resident_all,
                             .stream_whole = options.stream_all,
                             .release = options.release_source,
                             .progress = options.progress});
    lasting = std::make_unique<ExchangeMemory>(devices);
    vectors = share_vectors(model, *lasting);
    for (const auto& device : devices) receive_now(*device, vectors.all);
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

  static void receive_now(Device& device, const Block& block) {
    if (!device.enqueues()) return;
    device.begin_step();
    device.receive(block);
    device.launch();
    device.end_step();
  }

  /// Everything that depends on the plan but not on its weights. Programs point into the plan: they
  /// go first, and an exception leaves none that fit neither.
  void adopt_plan(const Plan& next) {
    programs.clear();
    for (const auto& device : devices) device->forget_recordings();
    context = 0;
    flags = {};
    stamps = {};
    exchanged = std::make_unique<ExchangeMemory>(devices);
    kv = place_kv(model, next, devices, options.max_context);
    buffers =
        allocate_buffers(model.spec, next, *exchanged,
                         {.tokens = options.max_tokens, .logits_rows = options.max_logits_rows});
    plan = next;
    for (const auto& device : devices) device->reserve(device_limits(model.spec, options));
  }

  Program& current() { return programs[program]; }

  void check(const Step& s, std::span<const int32_t> token_ids) const {
    if (failed.load()) throw Error("executor: a unit failed in an earlier step; open it again");
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
    Program made = make_program(model.spec, plan, step, buffers, enqueues, ++recordings);
    make_room(made.num_flags, 2 * std::ssize(made.graph.tasks));
    programs.push_back(std::move(made));
  }

  void make_room(ptrdiff_t num_flags, ptrdiff_t num_stamps) {
    if (std::ssize(flags) >= num_flags && std::ssize(stamps) >= num_stamps) return;
    // What was recorded names the old ones.
    for (const auto& device : devices) device->forget_recordings();
    flags = exchanged->take<Flag>(std::max(std::ssize(flags), num_flags));
    stamps = exchanged->take<int64_t>(std::max(std::ssize(stamps), num_stamps));
  }

  const Timeline& run(const Step& s, std::span<const int32_t> token_ids, const Sampler& chosen_by) {
    sampler = chosen_by;
    check(s, token_ids);
    step = s;
    choose_program();
    prepare_step(step, token_ids, buffers);
    kept = step.tokens;
    std::iota(buffers.accepted.begin(), buffers.accepted.begin() + step.tokens, 0);
    start_ns = now_ns();
    const uint32_t this_step = number.load() + 1;
    // Sequentially consistent: notify_all() looks for sleepers, and must not look before they can
    // see the number.
    number.store(this_step);
    number.notify_all();
    walk(0);
    for (size_t unit = 1; unit < devices.size(); ++unit)
      while (unit_done[unit].load(std::memory_order_acquire) != this_step) relax(yield);
    if (failed.load()) std::rethrow_exception(failure);
    read_stamps();
    context += kept;
    return timeline;
  }

  void read_stamps() {
    timeline.origin = Timeline::Origin::kMeasured;
    timeline.makespan_s = 0;
    timeline.spans.clear();
    for (const Task& task : current().graph.tasks) {
      if (task.stage == Stage::kCopy) continue;
      const auto i = 2 * static_cast<size_t>(task.id);
      const Span span{task.id, task.unit, 1e-9 * static_cast<double>(stamps[i] - start_ns),
                      1e-9 * static_cast<double>(stamps[i + 1] - start_ns)};
      timeline.makespan_s = std::max(timeline.makespan_s, span.end_s);
      timeline.spans.push_back(span);
    }
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
      walk(unit);
      unit_done[unit].store(seen, std::memory_order_release);
    }
  }

  void walk(size_t unit) noexcept {
    try {
      walk_lanes(unit);
    } catch (...) {
      fail(std::current_exception());
    }
  }

  /// The unit's own lane, and then, while a unit that enqueues is at work, what its driver does
  /// beside it.
  void walk_lanes(size_t unit) {
    Device& device = *devices[unit];
    const size_t beside = devices.size() + unit;
    if (!device.begin_step(current().recording)) {
      if (device.enqueues())
        for (const Block& block : input_blocks(model.spec, step, buffers)) device.receive(block);
      for (const int id : current().lanes[unit]) {
        for (const int flag : current().waits[static_cast<size_t>(id)])
          device.wait(flags[static_cast<size_t>(flag)]);
        if (failed.load(std::memory_order_relaxed)) break;
        perform(device, id);
        for (const int flag : current().raises[static_cast<size_t>(id)])
          device.raise(flags[static_cast<size_t>(flag)]);
      }
    }
    device.launch();
    for (const int id : current().lanes[beside]) perform_beside(device, id);
    device.end_step();
  }

  /// What the driver of a unit that enqueues does at once, on its core.
  void perform_beside(Device& device, int id) {
    for (const int flag : current().waits[static_cast<size_t>(id)])
      for (int spins = 1; !flags[static_cast<size_t>(flag)].take(); ++spins) {
        // The flag may be the unit's own stream's to raise, which a lost device never does.
        if (spins % kCheckEvery == 0) device.check();
        relax(yield);
      }
    if (failed.load(std::memory_order_relaxed)) return;
    const Task& task = current().graph.tasks[static_cast<size_t>(id)];
    int64_t* stamp = &stamps[2 * static_cast<size_t>(id)];
    stamp[0] = now_ns();
    do_task(device, task);
    stamp[1] = now_ns();
    for (const int flag : current().raises[static_cast<size_t>(id)])
      flags[static_cast<size_t>(flag)].raise();
  }

  /// Lets every driver and every stream that waits go on to the end of the step.
  void fail(std::exception_ptr error) {
    const std::lock_guard lock(failure_mutex);
    if (!failed.exchange(true)) failure = std::move(error);
    for (Flag& flag : flags) flag.cancel();
  }

  void perform(Device& device, int id) {
    const auto i = static_cast<size_t>(id);
    const Task& task = current().graph.tasks[i];
    device.stamp(&stamps[2 * i]);
    for (const Transfer& transfer : current().exchange.receives[i])
      for (const Block& block : blocks_of(transfer, model.spec, step, buffers))
        device.receive(block);
    if (task.stage == Stage::kCommit) device.receive(accepted_block(step, buffers));
    do_task(device, task);
    device.stamp(&stamps[2 * i + 1]);
  }

  void do_task(Device& device, const Task& task) {
    if (task.stage == Stage::kSample) return sample(device);
    const auto unit = static_cast<size_t>(task.unit);
    const auto i = static_cast<size_t>(task.id);
    run_task(device, task,
             {.model = model,
              .plan = plan,
              .layer_plans = *current().phase,
              .weights = weights[static_cast<size_t>(memory_of[unit])],
              .vectors = vectors,
              .kv = kv[unit],
              .buffers = buffers,
              .step = step,
              .states = current().states[i],
              .publish = current().exchange.publishes[i] != 0});
  }

  void sample(Device& device) {
    const std::span<const float> all = logits();
    argmax = device.argmax(all.last(static_cast<size_t>(model.spec.vocab_size)).data(),
                           model.spec.vocab_size);
    if (!sampler) return;
    const std::vector<int32_t> accepted = sampler(all, step.logits_rows);
    kept = std::ssize(accepted);
    std::copy(accepted.begin(), accepted.end(), buffers.accepted.begin());
    if (kept < step.tokens) buffers.accepted[static_cast<size_t>(kept)] = -1;
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
  assert(state_->options.stream_all || streaming_units(plan) == 0);
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
  if (context > state_->context) fill_kv(state_->kv, state_->devices, context, seed);
  state_->context = context;
}

std::vector<MemoryUse> Executor::memory() const {
  const State& s = *state_;
  std::vector<MemoryUse> uses(s.devices.size());
  const std::vector<int64_t> weights =
      held_weights(s.model.spec, s.plan, {s.memory_of, s.options.resident_all}, s.weights);
  for (size_t unit = 0; unit < uses.size(); ++unit) {
    uses[unit].weights = weights[unit];
    for (const LayerKv& layer : s.kv[unit])
      for (const PlacedKv& home : layer) uses[unit].kv += kv_bytes(home.view);
    uses[unit].workspace = s.devices[unit]->workspace_bytes();
    const auto memory = static_cast<size_t>(s.memory_of[unit]);
    if (std::find(s.memory_of.begin(), s.memory_of.end(), s.memory_of[unit]) ==
        s.memory_of.begin() + static_cast<ptrdiff_t>(unit))
      uses[unit].host += s.weights[memory].streamed_bytes;
  }
  add_step_buffers(s.buffers.bytes, s.enqueues, uses);
  const auto embedding = static_cast<size_t>(s.plan.embedding);
  const auto memory = static_cast<size_t>(s.memory_of[embedding]);
  if (s.weights[memory].tied_embedding(s.model.spec) == nullptr)
    add_table(table_bytes(s.model.spec), s.enqueues, s.plan.embedding, uses);
  return uses;
}

}  // namespace tandem
