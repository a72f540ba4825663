#include "sim/simulate.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "sim/fair_rates.h"

namespace tandem {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

class Simulation {
 public:
  Simulation(const TaskGraph& graph, const CostModel& cost, const Exchange& exchange)
      : graph_(graph),
        cost_(cost),
        exchange_(exchange),
        queues_(2 * static_cast<size_t>(graph.num_units)) {
    timeline_.spans.resize(graph.tasks.size());
    ended_.resize(graph.tasks.size());
    for (const Task& task : graph.tasks)
      queues_[static_cast<size_t>(lane_of(task, graph.num_units))].tasks.push_back(task.id);
  }

  Timeline run() && {
    while (true) {
      const double next_start = start_ready_tasks();
      share_rates(cost_, running_);
      const double next = std::min(next_start, next_end());
      if (next == kNever) break;
      advance(next);
    }
    timeline_.makespan_s = now_;
    return std::move(timeline_);
  }

 private:
  struct Queue {
    std::vector<int> tasks;
    size_t next = 0;
    bool busy = false;
  };
  /// What running_ does not say of the same task.
  struct Work {
    int task = 0;
    double left_s = 0;  ///< of its seconds alone
  };

  /// Starts what can start now; when the next of the others could, or kNever.
  double start_ready_tasks() {
    double next = kNever;
    for (Queue& queue : queues_) {
      if (queue.busy || queue.next == queue.tasks.size()) continue;
      const int id = queue.tasks[queue.next];
      const double ready = ready_s(graph_.tasks[static_cast<size_t>(id)]);
      if (ready > now_) {
        next = std::min(next, ready);
        continue;
      }
      start(graph_.tasks[static_cast<size_t>(id)]);
      queue.busy = true;
      ++queue.next;
    }
    return next;
  }

  /// When the flags of all its dependencies have crossed; kNever while one of them is not done.
  double ready_s(const Task& task) const {
    double ready = 0;
    for (const int dep : task.deps) {
      if (!ended_[static_cast<size_t>(dep)]) return kNever;
      const Span& span = timeline_.spans[static_cast<size_t>(dep)];
      ready = std::max(ready, span.end_s + cost_.handoff_s(span.unit, task.unit));
    }
    return ready;
  }

  void start(const Task& task) {
    const TaskCost cost = cost_.cost(task);
    const double seconds = cost.seconds + exchange_s(task);
    const double demand = seconds > 0 ? cost.memory_bytes / seconds : 0;
    timeline_.spans[static_cast<size_t>(task.id)] = {task.id, task.unit, now_, now_};
    running_.push_back({.lane = lane_of(task, graph_.num_units), .demand_per_s = demand});
    work_.push_back({task.id, seconds});
  }

  /// Of what the task reads from other memories, and of its result where they read that.
  double exchange_s(const Task& task) const {
    if (exchange_.receives.empty()) return 0;
    const auto id = static_cast<size_t>(task.id);
    return cost_.receive_s(task.unit, exchange_.receives[id]) +
           cost_.publish_s(task.unit, exchange_.published_bytes[id]);
  }

  double end_s(size_t i) const { return now_ + work_[i].left_s / running_[i].rate; }

  double next_end() const {
    double next = kNever;
    for (size_t i = 0; i < work_.size(); ++i) next = std::min(next, end_s(i));
    return next;
  }

  void advance(double to) {
    for (size_t i = 0; i < work_.size();) {
      // Compared as next_end() computed it, so that the task that set `to` ends whatever the
      // rounding.
      if (end_s(i) > to) {
        work_[i].left_s -= (to - now_) * running_[i].rate;
        ++i;
        continue;
      }
      timeline_.spans[static_cast<size_t>(work_[i].task)].end_s = to;
      ended_[static_cast<size_t>(work_[i].task)] = true;
      queues_[static_cast<size_t>(running_[i].lane)].busy = false;
      work_.erase(work_.begin() + static_cast<std::ptrdiff_t>(i));
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    now_ = to;
  }

  const TaskGraph& graph_;
  const CostModel& cost_;
  const Exchange& exchange_;
  std::vector<Queue> queues_;  ///< per lane
  std::vector<Running> running_;
  std::vector<Work> work_;   ///< of running_, in the same order
  std::vector<char> ended_;  ///< by task
  double now_ = 0;
  Timeline timeline_;
};

}  // namespace

Timeline simulate(const TaskGraph& graph, const CostModel& cost, const Exchange& exchange) {
  return Simulation(graph, cost, exchange).run();
}

Timeline simulate(const ModelSpec& model, const Plan& plan, const TaskGraph& graph,
                  const CostModel& cost) {
  if (cost.memories().own == 0) return simulate(graph, cost);
  return simulate(graph, cost, exchange_of(model, plan, graph, cost.memories()));
}

}  // namespace tandem
