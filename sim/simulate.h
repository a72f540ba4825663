// The event simulator: gives every task of a graph a start and an end. Pure.
#pragma once

#include "sim/cost.h"
#include "sim/exchange.h"
#include "sim/task_graph.h"

namespace tandem {

/// Runs the graph in virtual time. A lane does its tasks in graph order, each as soon as the tasks
/// it depends on have ended and their flags have crossed; so a unit's copies run beside its other
/// tasks. Tasks that read one memory at once share its measured capacity max-min fairly. Tasks that
/// end at one time end together, so no order of equals can matter. Without an exchange, copies of
/// results take no time.
Timeline simulate(const TaskGraph& graph, const CostModel& cost, const Exchange& exchange = {});
/// The same of a plan's lowered graph, with what units that have a memory of their own copy.
Timeline simulate(const ModelSpec& model, const Plan& plan, const TaskGraph& graph,
                  const CostModel& cost);

struct Interval {
  double low_s = 0;
  double high_s = 0;
};
/// 90 % interval of a makespan from the spreads of the figures on its critical path, at least 2 %
/// to either side.
Interval interval_90(const TaskGraph& graph, const CostModel& cost, const Timeline& timeline);

}  // namespace tandem
