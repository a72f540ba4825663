// Which results cross between memories in a step: what a unit with a memory of its own must copy
// before a task, and which results it must write to host memory for others. The executor makes the
// copies, the simulator prices them.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/task_graph.h"

namespace tandem {

/// The buffers that units exchange; each begins anew with every step.
enum class Buffer : uint8_t {
  kX,         ///< residual stream, by column
  kQ,         ///< queries, by kv head
  kStep,      ///< new keys and values of a layer, by kv head
  kStates,    ///< softmax states of an attention part, by kv head
  kAttended,  ///< attention's output, by kv head
  kH,         ///< SwiGLU's output, by column
  kLogits,    ///< by column
};

/// Whose memory units work in.
struct UnitMemories {
  uint64_t own = 0;  ///< bit u: unit u does not work in host memory
  /// [unit] bit v: it reads what unit v wrote from v's memory, not from the host's. Empty = none
  /// does.
  std::vector<uint64_t> direct = {};

  bool reads_directly(int reader, int writer) const {
    return !direct.empty() && (direct[static_cast<size_t>(reader)] >> writer & 1) != 0;
  }
};

/// A part of a buffer that `producer` wrote and a task of another memory reads.
struct Transfer {
  Buffer buffer = Buffer::kX;
  int index = 0;     ///< kStep: layer; kStates: part; else 0
  Range range;       ///< columns or kv heads
  int64_t rows = 1;  ///< the last so many of those that the buffer has in this step
  int producer = 0;
  double bytes = 0;
  int from = -1;  ///< the unit whose memory it is read from, -1 = the host's
};

struct Exchange {
  std::vector<std::vector<Transfer>> receives;  ///< [task] to copy before it, each part once a step
  /// [task] of its result, which is read from host memory though it was computed in another one; 0
  /// where nobody does, or the unit works in host memory anyway.
  std::vector<double> published_bytes;
};

/// Tasks that a driver does on the host, whatever its unit, read and write host memory. Logits are
/// published in any case. Reading from another unit's memory needs no flag of its own: that unit
/// changes what was read in a later stage only, whose tasks wait for the stages before, the
/// readers' among them.
Exchange exchange_of(const ModelSpec& model, const Plan& plan, const TaskGraph& graph,
                     const UnitMemories& memories);

/// The unit's driver embeds, on the host, and samples there what the host chooses.
constexpr bool on_host(Stage stage, const Step& step) {
  return stage == Stage::kEmbed || (stage == Stage::kSample && step.sampled);
}

}  // namespace tandem
