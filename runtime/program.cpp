#include "runtime/program.h"

#include <map>
#include <utility>

namespace tandem {
namespace {

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

/// The device makes copies of streamed weights ahead by itself: nobody is told to.
bool is_done_by_device(const Task& task) { return task.stage == Stage::kCopy; }

size_t driven_lane_of(const Task& task, const Step& step, size_t num_units, uint64_t enqueues) {
  const auto unit = static_cast<size_t>(task.unit);
  const bool beside = (enqueues >> unit & 1) != 0 && on_host(task.stage, step);
  return beside ? num_units + unit : unit;
}

/// A flag for each task that another lane depends on, one for each such lane: the first task there
/// that depends on it takes it, those behind need not.
void add_flags(const std::vector<size_t>& lane, Program& program) {
  std::map<std::pair<int, size_t>, int> flags;
  for (const Task& task : program.graph.tasks) {
    const auto i = static_cast<size_t>(task.id);
    for (const int dep : task.deps) {
      const auto d = static_cast<size_t>(dep);
      // A copy's dependencies are on its own unit, and so is what depends on it.
      if (lane[d] == lane[i]) continue;
      const auto [flag, is_new] = flags.try_emplace({dep, lane[i]}, program.num_flags);
      if (!is_new) continue;
      ++program.num_flags;
      program.waits[i].push_back(flag->second);
      program.raises[d].push_back(flag->second);
    }
  }
}

void add_states(const StepBuffers& buffers, Program& program) {
  for (const Task& task : program.graph.tasks) {
    if (task.stage != Stage::kMerge) continue;
    for (const int dep : task.deps) {  // lowering lists them in order of position
      const int part = program.graph.tasks[static_cast<size_t>(dep)].part;
      program.states[static_cast<size_t>(task.id)].push_back(
          buffers.states[static_cast<size_t>(part)].data());
    }
  }
}

}  // namespace

Program make_program(const ModelSpec& model, const Plan& plan, const Step& step,
                     const StepBuffers& buffers, const UnitMemories& memories, uint64_t recording) {
  const Phase& phase = phase_for(plan, step.tokens, step.context);
  Program program;
  program.recording = recording;
  program.shape = step;
  program.reached = reached_parts(phase, step);
  program.phase = &phase;
  program.graph = lower(model, plan, step);
  program.exchange = exchange_of(model, plan, program.graph, memories);
  const size_t units = plan.units.size(), tasks = program.graph.tasks.size();
  program.lanes.resize(2 * units);
  program.waits.resize(tasks);
  program.raises.resize(tasks);
  program.states.resize(tasks);
  std::vector<size_t> lane;
  for (const Task& task : program.graph.tasks) {
    lane.push_back(driven_lane_of(task, step, units, memories.own));
    if (!is_done_by_device(task)) program.lanes[lane.back()].push_back(task.id);
  }
  add_flags(lane, program);
  add_states(buffers, program);
  return program;
}

bool same_shape(const Program& program, const Plan& plan, const Step& step) {
  const Phase& phase = phase_for(plan, step.tokens, step.context);
  return program.phase == &phase && program.shape.tokens == step.tokens &&
         program.shape.logits_rows == step.logits_rows && program.shape.parents == step.parents &&
         program.shape.sampled == step.sampled && program.reached == reached_parts(phase, step);
}

}  // namespace tandem
