// interval_90: how far a makespan may lie off, from the spreads of the figures on its critical
// path.
#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "sim/simulate.h"

namespace tandem {
namespace {

/// Interquartile range and 90 % half-width of a normal distribution, in standard deviations.
constexpr double kIqrSigmas = 1.349;
constexpr double k90Sigmas = 1.645;
/// Figures are never better known than this: medians of runs minutes apart differ by as much.
constexpr double kSmallestHalfWidth = 0.02;

/// What held up the start of `task`: the dependency, or the task before it on its lane, that let it
/// go last; -1 = none.
int predecessor(const Task& task, int previous_on_lane, const CostModel& cost,
                const Timeline& timeline) {
  int latest = previous_on_lane;
  const auto release_s = [&](int id) {
    const Span& span = timeline.spans[static_cast<size_t>(id)];
    return span.end_s + cost.handoff_s(span.unit, task.unit);
  };
  for (const int dep : task.deps)
    if (latest < 0 || release_s(dep) > release_s(latest)) latest = dep;
  return latest;
}

/// Ids of a chain of tasks that makes up the makespan, last first.
std::vector<int> critical_path(const TaskGraph& graph, const CostModel& cost,
                               const Timeline& timeline) {
  std::vector<int> last_on_lane(2 * static_cast<size_t>(graph.num_units), -1);
  std::vector<int> predecessors;
  for (const Task& task : graph.tasks) {
    int& last = last_on_lane[static_cast<size_t>(lane_of(task, graph.num_units))];
    predecessors.push_back(predecessor(task, last, cost, timeline));
    last = task.id;
  }
  const auto last_span =
      std::max_element(timeline.spans.begin(), timeline.spans.end(),
                       [](const Span& a, const Span& b) { return a.end_s < b.end_s; });
  std::vector<int> path;
  for (int id = last_span->task; id >= 0; id = predecessors[static_cast<size_t>(id)])
    path.push_back(id);
  return path;
}

}  // namespace

Interval interval_90(const TaskGraph& graph, const CostModel& cost, const Timeline& timeline) {
  // Tasks priced from the same curves err together, others independently of each other.
  std::map<std::tuple<Stage, DType, int>, double> iqr_s;
  for (const int id : critical_path(graph, cost, timeline)) {
    const Task& task = graph.tasks[static_cast<size_t>(id)];
    const Span& span = timeline.spans[static_cast<size_t>(id)];
    iqr_s[{task.stage, task.matrices[0].dtype, task.unit}] +=
        (span.end_s - span.start_s) * cost.cost(task).spread;
  }
  double variance = 0;
  for (const auto& [family, iqr] : iqr_s) variance += (iqr / kIqrSigmas) * (iqr / kIqrSigmas);
  const double half =
      std::max(k90Sigmas * std::sqrt(variance), kSmallestHalfWidth * timeline.makespan_s);
  return {std::max(0.0, timeline.makespan_s - half), timeline.makespan_s + half};
}

}  // namespace tandem
