// Making an executor: devices, weights, caches, and everything that depends on the plan; what it
// says of itself. Steps are run in drivers.cpp.
#include "runtime/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "kernels/error.h"
#include "kernels/team.h"
#include "profiles/probe.h"
#include "runtime/executor_state.h"
#include "runtime/memory_needs.h"
#include "runtime/resident_columns.h"

namespace tandem {
namespace {

/// Two units on one core, or a team larger than its cores: spinning would keep the other from
/// running.
bool cores_are_shared(const std::vector<Unit>& units) {
  std::vector<int> cores;
  for (const Unit& unit : units) cores.insert(cores.end(), unit.cores.begin(), unit.cores.end());
  std::sort(cores.begin(), cores.end());
  return std::adjacent_find(cores.begin(), cores.end()) != cores.end();
}

void receive_now(Device& device, const Block& block) {
  if (!device.enqueues()) return;
  device.begin_step();
  device.receive(block);
  device.launch();
  device.end_step();
}

}  // namespace

Executor::State::State(const Model& m, const Plan& first, const std::vector<Unit>& units,
                       const ExecutorOptions& o)
    : model(m),
      plans(all_plans(first, o)),
      options(o),
      memory_of(number_memories(units)),
      yield(cores_are_shared(units)),
      unit_done(units.size()) {
  sched_getaffinity(0, sizeof affinity, &affinity);
  open_devices(units);
  weights = place_weights(model, plans, devices, memory_of,
                          {.release = options.release_source, .progress = options.progress});
  lasting = std::make_unique<ExchangeMemory>(devices);
  vectors = share_vectors(model, *lasting);
  for (const auto& device : devices) receive_now(*device, vectors.all);
  adopt_plan(first);
  for (size_t unit = 1; unit < devices.size(); ++unit) {
    drivers.emplace_back([this, unit] { drive(unit); });
    pin_thread(drivers.back(), units[unit].cores.front());
  }
}

Executor::State::~State() {
  stop.store(true);
  number.fetch_add(1);
  number.notify_all();
  for (std::thread& driver : drivers) driver.join();
  sched_setaffinity(0, sizeof affinity, &affinity);
}

void Executor::State::open_devices(const std::vector<Unit>& units) {
  for (const Unit& unit : units) devices.push_back(open_device(unit, yield));
  memories.direct.assign(devices.size(), 0);
  for (size_t unit = 0; unit < devices.size(); ++unit) {
    if (devices[unit]->enqueues()) memories.own |= uint64_t{1} << unit;
    for (size_t other = 0; other < devices.size(); ++other)
      if (other != unit && devices[unit]->connect(*devices[other]))
        memories.direct[unit] |= uint64_t{1} << other;
  }
}

/// Everything that depends on the plan but not on its weights. Programs point into the plan: they
/// go first, and an exception leaves none that fit neither.
void Executor::State::adopt_plan(const Plan& next) {
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

void Executor::State::make_room(ptrdiff_t num_flags, ptrdiff_t num_stamps) {
  if (std::ssize(flags) >= num_flags && std::ssize(stamps) >= num_stamps) return;
  // What was recorded names the old ones.
  for (const auto& device : devices) device->forget_recordings();
  flags = exchanged->take<Flag>(std::max(std::ssize(flags), num_flags));
  stamps = exchanged->take<int64_t>(std::max(std::ssize(stamps), num_stamps));
}

Executor::Executor(const Model& model, const Plan& plan, const std::vector<Unit>& units,
                   const ExecutorOptions& options)
    : state_(std::make_unique<State>(model, plan, units, options)) {}
Executor::~Executor() = default;

const Timeline& Executor::run(const Step& step, std::span<const int32_t> token_ids,
                              const Sampler& sampler) {
  return state_->run(step, token_ids, sampler);
}

void Executor::set_plan(const Plan& plan) {
  assert(std::any_of(state_->plans.begin(), state_->plans.end(), [&](const Plan& placed) {
    return placed.phases == plan.phases && placed.embedding == plan.embedding;
  }));
  state_->adopt_plan(plan);
}

std::span<const float> Executor::logits() const { return state_->logits(); }
int32_t Executor::argmax() const { return state_->buffers.largest.front(); }
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
  const std::vector<int64_t> weights = held_weights(s.model.spec, s.plans, s.memory_of, s.weights);
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
  add_step_buffers(s.buffers.bytes, s.memories.own, uses);
  if (reads_table(s.model.spec, s.plans, s.memory_of, s.memories.own))
    add_table(table_bytes(s.model.spec), s.memories.own, s.plan.embedding, uses);
  return uses;
}

}  // namespace tandem
