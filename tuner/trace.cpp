#include "tuner/trace.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "kernels/file.h"
#include "tuner/format.h"

namespace tandem {
namespace {

using Json = nlohmann::ordered_json;

std::string event_name(const Task& task) {
  const std::string what = fmt::format("{} {}", name(task.stage), format_range(task.range));
  return task.layer < 0 ? what : fmt::format("L{} {}", task.layer, what);
}

Json event(const Task& task, const Span& span, int num_units) {
  const double seconds = span.end_s - span.start_s;
  return {{"name", event_name(task)},
          {"cat", name(task.stage)},
          {"ph", "X"},
          {"pid", 0},
          {"tid", lane_of(task, num_units)},
          {"ts", span.start_s * 1e6},  // the format counts microseconds
          {"dur", seconds * 1e6},
          {"args",
           {{"task", task.id},
            {"bytes", task.bytes},
            {"flops", task.flops},
            {"GB/s", seconds > 0 ? task.bytes / seconds * 1e-9 : 0.0}}}};
}

Json metadata(const std::string& what, int track, const std::string& title) {
  return {{"name", what}, {"ph", "M"}, {"pid", 0}, {"tid", track}, {"args", {{"name", title}}}};
}

}  // namespace

std::string trace_text(const TaskGraph& graph, const Timeline& timeline,
                       const std::vector<std::string>& units) {
  const bool measured = timeline.origin == Timeline::Origin::kMeasured;
  Json events = Json::array();
  events.push_back(metadata("process_name", 0, measured ? "measured" : "simulated"));
  for (size_t unit = 0; unit < units.size(); ++unit)
    events.push_back(metadata("thread_name", static_cast<int>(unit), units[unit]));
  std::set<int> links;
  for (const Span& span : timeline.spans) {
    const Task& task = graph.tasks[static_cast<size_t>(span.task)];
    events.push_back(event(task, span, graph.num_units));
    const int lane = lane_of(task, graph.num_units);
    if (task.stage == Stage::kCopy && links.insert(lane).second)
      events.push_back(
          metadata("thread_name", lane, units[static_cast<size_t>(task.unit)] + " link"));
  }
  return Json{{"displayTimeUnit", "ns"}, {"traceEvents", std::move(events)}}.dump(1) + "\n";
}

void write_trace(const std::string& path, const TaskGraph& graph, const Timeline& timeline,
                 const std::vector<std::string>& units) {
  write_file_atomically(path, trace_text(graph, timeline, units));
}

}  // namespace tandem
