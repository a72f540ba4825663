#include "sim/simulate.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/sim/fixtures.h"

using namespace tandem;
using namespace tandem::fixtures;
using doctest::Approx;

namespace {

/// A task that reads `floats` floats of weights on `unit`.
Task reading(Stage stage, int unit, int64_t floats, std::vector<int> deps = {}) {
  Task task;
  task.stage = stage;
  task.unit = unit;
  task.matrices[0] = {DType::kF32, floats, 1};
  task.num_matrices = 1;
  task.bytes = static_cast<double>(task.matrices[0].bytes());
  task.deps = std::move(deps);
  return task;
}

TaskGraph graph_of(std::vector<Task> tasks) {
  TaskGraph graph{.step = {}, .num_units = 2, .tasks = std::move(tasks)};
  for (size_t i = 0; i < graph.tasks.size(); ++i) graph.tasks[i].id = static_cast<int>(i);
  return graph;
}

/// Two units that read 4 floats (16 bytes) a second each, `total` bytes/s together.
MachineProfile two_readers(double total_per_s, double slowdown = 1, double spread = 0) {
  MachineProfile machine = machine_of({reader("cpu0", 16, spread), reader("cpu1", 16, spread)});
  machine.contention = {{{"cpu0", "cpu1"}, {total_per_s, 0}, {}, {slowdown, 0}}};
  return machine;
}

/// Refers to `machine`, which must outlive it.
CostModel cost_of(const MachineProfile& machine) {
  const ModelSpec model = small_model();
  return {model, machine, single_unit_plan(model, {"cpu0", "cpu1"}, 0)};
}

Timeline simulated(const TaskGraph& graph, const MachineProfile& machine) {
  return simulate(graph, cost_of(machine));
}

void check_span(const Timeline& timeline, size_t task, double start_s, double end_s) {
  CHECK(timeline.spans[task].start_s == Approx(start_s));
  CHECK(timeline.spans[task].end_s == Approx(end_s));
}

constexpr Stage kS = Stage::kDown;

}  // namespace

TEST_CASE("a unit does its tasks one after the other in graph order") {
  const MachineProfile machine = two_readers(32);
  // Task 2 needs nothing, but task 1 is before it on cpu1 and waits for task 0: 1 s, then 2 s, then
  // 0.5 s.
  const TaskGraph graph = graph_of({reading(kS, 0, 4), reading(kS, 1, 8, {0}), reading(kS, 1, 2)});
  const Timeline timeline = simulated(graph, machine);
  check_span(timeline, 0, 0, 1);
  check_span(timeline, 1, 1, 3);
  check_span(timeline, 2, 3, 3.5);
  CHECK(timeline.makespan_s == Approx(3.5));
  CHECK(timeline.origin == Timeline::Origin::kSimulated);
}

TEST_CASE("a flag takes its time to cross to another unit, and none within one") {
  MachineProfile machine = two_readers(32);
  machine.links = {{"cpu0", "cpu1", {0.25, 0}}};
  const TaskGraph graph =
      graph_of({reading(kS, 0, 4), reading(kS, 0, 4, {0}), reading(kS, 1, 4, {0})});
  const Timeline timeline = simulated(graph, machine);
  check_span(timeline, 1, 1, 2);
  check_span(timeline, 2, 1.25, 2.25);
}

TEST_CASE("two readers share the memory until one of them ends") {
  // 16 + 16 bytes/s wanted, 24 there: both at 3/4. cpu1's half second of work ends at 2/3 s, when
  // cpu0 has done 1/2 of its second; the other half takes 1/2 s alone.
  const TaskGraph graph = graph_of({reading(kS, 0, 4), reading(kS, 1, 2)});
  const Timeline timeline = simulated(graph, two_readers(24));
  check_span(timeline, 0, 0, 2.0 / 3 + 0.5);
  check_span(timeline, 1, 0, 2.0 / 3);
}

TEST_CASE("a task that starts later slows the one in progress from then on") {
  // cpu1 starts at 1 s + 0.5 s hand-off. cpu0 has then done 0.5 s of its second task; at 3/4 each,
  // cpu0's other 1.5 s take 2 s and end at 3.5; cpu1 has then done 1.5 s of its 2 s and ends 0.5 s
  // later.
  MachineProfile machine = two_readers(24);
  machine.links = {{"cpu0", "cpu1", {0.5, 0}}};
  const TaskGraph graph = graph_of({reading(kS, 0, 4), reading(kS, 0, 8), reading(kS, 1, 8, {0})});
  const Timeline timeline = simulated(graph, machine);
  check_span(timeline, 1, 1, 3.5);
  check_span(timeline, 2, 1.5, 4);
}

TEST_CASE("units that slow each other's clocks are slow only while both are active") {
  // Rates 0.8: cpu1's half second ends at 0.625; cpu0 has done 0.5 and does the rest at full speed.
  const TaskGraph graph = graph_of({reading(kS, 0, 4), reading(kS, 1, 2)});
  const Timeline timeline = simulated(graph, two_readers(32, 1.25));
  check_span(timeline, 0, 0, 1.125);
  check_span(timeline, 1, 0, 0.625);
}

TEST_CASE("weights in cache are not slowed by a busy memory") {
  MachineProfile machine = two_readers(16);
  machine.machine.caches = {
      {3, 1 << 20, 2}};  // the small model's 0.34 MB of weights fit 70 % of it
  const TaskGraph graph = graph_of({reading(kS, 0, 4), reading(kS, 1, 2)});
  const Timeline timeline = simulated(graph, machine);
  check_span(timeline, 0, 0, 0.1);  // ten times the speed of memory
  check_span(timeline, 1, 0, 0.05);
}

TEST_CASE("a model on one unit takes the sum of its reads") {
  // Per layer 4 (128 x 64 + 64 x 64 + 2 x 128 x 64 + 64 x 128) = 147456 bytes, lm_head 4 x 160 x 64
  // = 40960: 335872 in all; at 1 MB/s 0.335872 s.
  const ModelSpec model = small_model();
  const MachineProfile machine = machine_of({reader("cpu0", 1e6)});
  const Plan plan = single_unit_plan(model, {"cpu0"}, 0);
  const CostModel cost(model, machine, plan);
  CHECK(simulate(lower(model, plan, Step{}), cost).makespan_s == Approx(0.335872));
}

TEST_CASE("two even units take half, and one hand-off per exchange") {
  // One of the units is a hand-off late after every exchange, each time the other one: embed to
  // qkv, four in each of two layers, lm_head to sample on cpu0, sample to commit on cpu1: 1 + 8 + 2
  // = 11.
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 1e6), reader("cpu1", 1e6)});
  machine.links = {{"cpu0", "cpu1", {1e-4, 0}}};
  const Plan plan = two_unit_plan(model);
  const CostModel cost(model, machine, plan);
  const Timeline timeline = simulate(lower(model, plan, Step{}), cost);
  CHECK(timeline.makespan_s == Approx(0.335872 / 2 + 11 * 1e-4));
}

TEST_CASE("two even units of a busy memory take what the memory takes") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 1e6), reader("cpu1", 1e6)});
  machine.contention = {{{"cpu0", "cpu1"}, {1.5e6, 0}, {}, {1, 0}}};
  const Plan plan = two_unit_plan(model);
  const CostModel cost(model, machine, plan);
  CHECK(simulate(lower(model, plan, Step{}), cost).makespan_s == Approx(0.335872 / 1.5));
}

TEST_CASE("tasks of very different length end, whatever the rounding of the clock") {
  std::vector<Task> tasks = {reading(kS, 0, int64_t{4} << 30)};
  for (int i = 0; i < 100; ++i) tasks.push_back(reading(kS, i % 2, 1 + i % 7));
  const Timeline timeline = simulated(graph_of(tasks), two_readers(19));
  for (const Span& span : timeline.spans) CHECK(span.end_s > span.start_s);
}

TEST_CASE("simulating twice gives the same spans to the last bit") {
  const ModelSpec model = small_model();
  const Plan plan = two_unit_plan(model);
  const TaskGraph graph =
      lower(model, plan, {.tokens = 7, .context = 99, .logits_rows = 1, .parents = {}});
  const MachineProfile machine = two_readers(21, 1.1);
  const CostModel cost(model, machine, plan);
  const Timeline a = simulate(graph, cost), b = simulate(graph, cost);
  for (size_t i = 0; i < a.spans.size(); ++i) CHECK(a.spans[i].end_s == b.spans[i].end_s);
}

TEST_CASE("errors of one family of figures add up, those of two are independent") {
  // Each task takes 1 s with an interquartile range of 0.2698 s: one sigma is 0.2 s.
  const MachineProfile machine = two_readers(32, 1, 0.2698);
  const CostModel cost = cost_of(machine);
  const auto half_width = [&](const TaskGraph& graph) {
    const Timeline timeline = simulate(graph, cost);
    const Interval interval = interval_90(graph, cost, timeline);
    CHECK(interval.high_s + interval.low_s == Approx(2 * timeline.makespan_s));
    return (interval.high_s - interval.low_s) / 2;
  };
  const TaskGraph same = graph_of({reading(Stage::kDown, 0, 4), reading(Stage::kDown, 0, 4)});
  CHECK(half_width(same) == Approx(1.645 * 0.4));
  const TaskGraph other = graph_of({reading(Stage::kDown, 0, 4), reading(Stage::kOut, 0, 4)});
  CHECK(half_width(other) == Approx(1.645 * 0.2 * std::sqrt(2)));
  // cpu1's shorter task is off the critical path.
  const TaskGraph beside = graph_of({reading(Stage::kDown, 0, 4), reading(Stage::kOut, 1, 2)});
  CHECK(half_width(beside) == Approx(1.645 * 0.2));
}

TEST_CASE("an interval is never narrower than two percent to either side") {
  const MachineProfile machine = two_readers(32);
  const CostModel cost = cost_of(machine);
  const TaskGraph graph = graph_of({reading(kS, 0, 4)});
  const Interval interval = interval_90(graph, cost, simulate(graph, cost));
  CHECK(interval.low_s == Approx(0.98));
  CHECK(interval.high_s == Approx(1.02));
}

namespace {

/// cpu0 reads 16 bytes a second, gpu0 64 of its own memory; its link copies 16.
MachineProfile cpu_and_gpu() {
  return machine_of({reader("cpu0", 16), cuda_reader("gpu0", 64, 16)});
}

Timeline simulated_on_gpu(const TaskGraph& graph, const MachineProfile& machine) {
  const ModelSpec model = small_model();
  return simulate(graph, CostModel(model, machine, single_unit_plan(model, {"cpu0", "gpu0"}, 0)));
}

/// Of `floats` floats over the link of gpu0, unit 1.
Task copying(int64_t floats, std::vector<int> deps = {}) {
  return reading(Stage::kCopy, 1, floats, std::move(deps));
}

}  // namespace

TEST_CASE("copies go one after another, beside what their unit computes") {
  // A copy of 4 floats takes 1 s, their product 1/4 s.
  const TaskGraph graph = graph_of(
      {copying(4), reading(kS, 1, 4, {0}), copying(4), reading(kS, 1, 4, {2}), reading(kS, 1, 4)});
  const Timeline timeline = simulated_on_gpu(graph, cpu_and_gpu());
  check_span(timeline, 0, 0, 1);
  check_span(timeline, 1, 1, 1.25);
  check_span(timeline, 2, 1, 2);
  check_span(timeline, 3, 2, 2.25);
  check_span(timeline, 4, 2.25, 2.5);
}

TEST_CASE("a copy waits until its slot was read") {
  // The product of 12 floats, behind a copy of 1/4 s, ends at 1 s; the next copy waits for it.
  const TaskGraph graph =
      graph_of({copying(1), reading(kS, 1, 12, {0}), copying(4, {1}), reading(kS, 1, 4, {2})});
  const Timeline timeline = simulated_on_gpu(graph, cpu_and_gpu());
  check_span(timeline, 1, 0.25, 1);
  check_span(timeline, 2, 1, 2);
  check_span(timeline, 3, 2, 2.25);
}

TEST_CASE("a copy and a CPU unit share the host's memory, and a GPU's own is another") {
  // 16 + 16 bytes/s wanted, 24 there: both at 3/4. cpu0's half second ends at 2/3 s, when the copy
  // has done 1/2 of its second. gpu0's product is not slowed: 1/4 s.
  MachineProfile machine = cpu_and_gpu();
  machine.contention = {{{"cpu0", "gpu0.streamed"}, {24, 0}, {}, {1, 0}}};
  const TaskGraph graph = graph_of({copying(4), reading(kS, 0, 2), reading(kS, 1, 4)});
  const Timeline timeline = simulated_on_gpu(graph, machine);
  check_span(timeline, 0, 0, 2.0 / 3 + 0.5);
  check_span(timeline, 1, 0, 2.0 / 3);
  check_span(timeline, 2, 0, 0.25);
}

TEST_CASE("copies that were not measured beside a CPU unit take their bytes from it") {
  // 16 bytes/s for both: half the speed each, until cpu0's half second ends at 1 s.
  const TaskGraph graph = graph_of({copying(4), reading(kS, 0, 2)});
  const Timeline timeline = simulated_on_gpu(graph, cpu_and_gpu());
  check_span(timeline, 0, 0, 1.5);
  check_span(timeline, 1, 0, 1);
}

TEST_CASE("a copy is not slowed by busy cores, nor are cores by a copy") {
  MachineProfile machine = cpu_and_gpu();
  machine.contention = {{{"cpu0", "gpu0"}, {80, 0}, {}, {2, 0}},
                        {{"cpu0", "gpu0.streamed"}, {32, 0}, {}, {1, 0}}};
  const TaskGraph graph = graph_of({copying(4), reading(kS, 0, 4)});
  const Timeline timeline = simulated_on_gpu(graph, machine);
  check_span(timeline, 0, 0, 1);
  check_span(timeline, 1, 0, 1);
}

TEST_CASE("cores are slowed by a copy beside them as was measured") {
  MachineProfile machine = cpu_and_gpu();
  machine.contention = {{{"cpu0", "gpu0.streamed"}, {32, 0}, {}, {2, 0}}};
  const TaskGraph graph = graph_of({copying(4), reading(kS, 0, 4)});
  const Timeline timeline = simulated_on_gpu(graph, machine);
  check_span(timeline, 0, 0, 1);
  check_span(timeline, 1, 0, 1.5);  // half of it in the copy's second
}

TEST_CASE(
    "a unit with its own memory copies what others computed, and publishes: that takes time") {
  const ModelSpec model = small_model();
  MachineProfile machine = machine_of({reader("cpu0", 1e6), cuda_reader("gpu0", 1e6, 1e6)});
  Plan plan = two_unit_plan(model);
  plan.units = {"cpu0", "gpu0"};
  const TaskGraph graph = lower(model, plan, Step{});
  const auto makespan_s = [&] {
    return simulate(model, plan, graph, CostModel(model, machine, plan)).makespan_s;
  };
  // Reads take 0.335872 / 2 s on each. gpu0 receives the residual stream of 64 floats once, then
  // half of it twice in the first layer, before gate_up and before the next qkv, and so on: in all
  // 64 + 4 x 32 floats; attended heads, 32 floats, and half of SwiGLU's output, 64, in both layers.
  const double received = 4.0 * (64 + 4 * 32 + 2 * (32 + 64));
  CHECK(makespan_s() == Approx(0.335872 / 2 + received / 1e6));
  // In each layer 32 floats of attended heads, of out and of down and 64 of SwiGLU's output, and 80
  // logits.
  machine.units[1].publish = proportional(1e-6);
  const double published = 4.0 * (2 * (3 * 32 + 64) + 80);
  CHECK(makespan_s() == Approx(0.335872 / 2 + (received + published) / 1e6));
}

TEST_CASE("a model that is streamed whole takes as long as its link") {
  const ModelSpec model = small_model();
  const MachineProfile machine = machine_of({cuda_reader("gpu0", 1e9, 1e6)});
  Plan plan = single_unit_plan(model, {"gpu0"}, 0);
  LayerPlan& layer = plan.phases[0].layers[0];
  for (LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
    split->front().home = Home::kStreamed;
  plan.phases[0].lm_head[0].home = Home::kStreamed;
  const CostModel cost(model, machine, plan);
  // 335872 bytes at 1 MB/s, and the product of the last 40960 behind it.
  CHECK(simulate(lower(model, plan, Step{}), cost).makespan_s == Approx(0.335872 + 40960e-9));
}
