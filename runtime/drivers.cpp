// A step of an executor: each unit's driver walks the unit's tasks in graph order and waits on the
// flags of other units' tasks.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "kernels/error.h"
#include "runtime/executor_state.h"

namespace tandem {
namespace {

int64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::nanoseconds(now).count();
}

/// Spins of a wait between looks at the device: some tens of microseconds.
constexpr int kCheckEvery = 1000;

}  // namespace

void Executor::State::check(const Step& s, std::span<const int32_t> token_ids) const {
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

void Executor::State::choose_program() {
  const auto found = std::find_if(programs.begin(), programs.end(),
                                  [&](const Program& p) { return same_shape(p, plan, step); });
  program = static_cast<size_t>(found - programs.begin());
  if (found != programs.end()) return;
  Program made = make_program(model.spec, plan, step, buffers, memories, ++recordings);
  make_room(made.num_flags, 2 * std::ssize(made.graph.tasks));
  programs.push_back(std::move(made));
}

const Timeline& Executor::State::run(const Step& s, std::span<const int32_t> token_ids,
                                     const Sampler& chosen_by) {
  sampler = chosen_by;
  check(s, token_ids);
  step = s;
  step.sampled = static_cast<bool>(sampler);
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

/// What the host does it stamps for nothing.
bool Executor::State::has_span(const Task& task) const {
  if (task.stage == Stage::kCopy) return false;
  const auto unit = static_cast<size_t>(task.unit);
  const std::vector<int>& lane = programs[program].lanes[unit];
  const bool queued = devices[unit]->enqueues() && !lane.empty() &&
                      std::binary_search(lane.begin(), lane.end(), task.id);
  return !queued || options.spans || task.id == lane.back();
}

void Executor::State::read_stamps() {
  timeline.origin = Timeline::Origin::kMeasured;
  timeline.makespan_s = 0;
  timeline.spans.clear();
  for (const Task& task : current().graph.tasks) {
    if (!has_span(task)) continue;
    const auto i = 2 * static_cast<size_t>(task.id);
    const Span span{task.id, task.unit, 1e-9 * static_cast<double>(stamps[i] - start_ns),
                    1e-9 * static_cast<double>(stamps[i + 1] - start_ns)};
    timeline.makespan_s = std::max(timeline.makespan_s, span.end_s);
    timeline.spans.push_back(span);
  }
}

/// A driver thread: spins a while between steps, then sleeps.
void Executor::State::drive(size_t unit) {
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

void Executor::State::walk(size_t unit) noexcept {
  try {
    walk_lanes(unit);
  } catch (...) {
    fail(std::current_exception());
  }
}

/// The unit's own lane, and then, while a unit that enqueues is at work, what its driver does
/// beside it.
void Executor::State::walk_lanes(size_t unit) {
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
void Executor::State::perform_beside(Device& device, int id) {
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
void Executor::State::fail(std::exception_ptr error) {
  const std::lock_guard lock(failure_mutex);
  if (!failed.exchange(true)) failure = std::move(error);
  for (Flag& flag : flags) flag.cancel();
}

void Executor::State::perform(Device& device, int id) {
  const auto i = static_cast<size_t>(id);
  const Task& task = current().graph.tasks[i];
  const bool spans = has_span(task);
  if (spans) device.stamp(&stamps[2 * i]);
  for (const Transfer& transfer : current().exchange.receives[i])
    for (const Block& block : blocks_of(transfer, model.spec, step, buffers))
      if (transfer.from < 0) {
        device.receive(block);
      } else {
        device.receive_from(*devices[static_cast<size_t>(transfer.from)], block);
      }
  if (task.stage == Stage::kCommit) device.receive(accepted_block(step, buffers));
  do_task(device, task);
  if (spans) device.stamp(&stamps[2 * i + 1]);
}

void Executor::State::do_task(Device& device, const Task& task) {
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
            .publish = current().exchange.published_bytes[i] > 0});
}

void Executor::State::sample(Device& device) {
  const std::span<const float> all = logits();
  if (!sampler)
    return device.argmax({.values = all.last(static_cast<size_t>(model.spec.vocab_size)).data(),
                          .n = model.spec.vocab_size,
                          .index = buffers.largest.data()});
  const std::vector<int32_t> accepted = sampler(all, step.logits_rows);
  kept = std::ssize(accepted);
  std::copy(accepted.begin(), accepted.end(), buffers.accepted.begin());
  if (kept < step.tokens) buffers.accepted[static_cast<size_t>(kept)] = -1;
}

}  // namespace tandem
