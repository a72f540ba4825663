// A timeline as a trace file that Perfetto (ui.perfetto.dev) and chrome://tracing open: one track
// per unit, and one per link that copies.
#pragma once

#include <string>
#include <vector>

#include "sim/task_graph.h"

namespace tandem {

/// JSON text: one complete event per span, named like `L3 gate_up [0,4224)`, with bytes, flops and
/// GB/s as arguments.
std::string trace_text(const TaskGraph& graph, const Timeline& timeline,
                       const std::vector<std::string>& units);
/// Writes it to a temporary name and renames. Error where the file cannot be written.
void write_trace(const std::string& path, const TaskGraph& graph, const Timeline& timeline,
                 const std::vector<std::string>& units);

}  // namespace tandem
