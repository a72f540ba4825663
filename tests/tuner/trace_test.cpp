#include "tuner/trace.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

namespace tandem {
namespace {

TEST_CASE("A trace has one named track per unit and one event per span, in microseconds") {
  Task task;
  task.stage = Stage::kGateUp;
  task.unit = 1;
  task.layer = 3;
  task.range = {0, 4224};
  task.bytes = 1e9;
  task.flops = 5;
  TaskGraph graph;
  graph.num_units = 2;
  graph.tasks = {task};
  Timeline timeline;
  timeline.origin = Timeline::Origin::kMeasured;
  timeline.spans = {{.task = 0, .unit = 1, .start_s = 1, .end_s = 3}};

  const auto trace = nlohmann::json::parse(trace_text(graph, timeline, {"cpu0", "cpu1"}));
  const auto& events = trace.at("traceEvents");
  REQUIRE(events.size() == 4);  // the process, two tracks, one span
  CHECK(events[0].at("args").at("name") == "measured");
  CHECK(events[2].at("args").at("name") == "cpu1");
  const auto& span = events[3];
  CHECK(span.at("name") == "L3 gate_up [0,4224)");
  CHECK(span.at("tid") == events[2].at("tid"));
  CHECK(span.at("ts") == 1e6);
  CHECK(span.at("dur") == 2e6);
  CHECK(span.at("args").at("GB/s") == 0.5);  // 1e9 bytes in 2 s
}

}  // namespace
}  // namespace tandem
