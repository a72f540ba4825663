// The event simulator: gives every task of a graph a start and an end. Pure.
#pragma once

#include "sim/cost.h"
#include "sim/task_graph.h"

namespace tandem {

/// Runs the graph in virtual time. A unit does its tasks in graph order, each as soon as the tasks it depends on have
/// ended and their flags have crossed. Tasks that read one memory at once share its measured capacity max-min fairly.
/// Ties are broken by task id.
Timeline simulate(const TaskGraph& graph, const CostModel& cost);

/// Standard interval of a makespan from the spreads of its tasks' figures: 90 %.
struct Interval { double low_s = 0, high_s = 0; };
Interval interval_90(const TaskGraph& graph, const CostModel& cost, const Timeline& timeline);

}  // namespace tandem
