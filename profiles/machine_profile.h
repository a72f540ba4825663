// What one machine is: its units and what was measured on them. Plain structs; reading and
// measuring are elsewhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "profiles/curve.h"

namespace tandem {

enum class UnitKind : uint8_t { kCpu, kCuda };

/// One processing unit: cores that work as one team, or a GPU.
struct Unit {
  std::string name;  ///< "cpu0"
  UnitKind kind = UnitKind::kCpu;
  std::vector<int> cores;    ///< logical CPU numbers; a CUDA unit: its driver's core
  std::string isa;           ///< kernel set, e.g. "avx2"; a CUDA unit: its capability, "sm_90"
  std::string memory;        ///< "dram0": units of one memory share its bandwidth and capacity
  int index = 0;             ///< of a CUDA unit: the device's number in the driver's order
  int64_t memory_bytes = 0;  ///< of a memory that is the unit's own; 0 = it is the host's
};

/// Units with the same store share one copy of packed weights. They have one memory, and kernels
/// that read the same layout there: CPU kernels of every instruction set do, a CUDA device reads
/// its own, also where its memory is the host's.
inline std::string weight_store(const Unit& unit) {
  if (unit.kind == UnitKind::kCpu) return unit.memory;
  return unit.memory + ", cuda:" + std::to_string(unit.index);
}

/// Time of the linear kernels of one dtype for a step of `tokens` tokens, preparation of the input
/// excluded.
struct LinearCurve {
  DType dtype = DType::kF32;
  int64_t tokens = 1;
  Curve from_dram;   ///< x: bytes of weights as the file counts them (row_bytes x columns)
  Curve from_cache;  ///< the same with weights that stay in the last-level cache
};

/// Elements of k of the rows that linear curves were measured with.
inline constexpr int64_t kProfiledRow = 2048;

/// One token's linear from memory, by k of its rows: its time over that of as many bytes in rows of
/// kProfiledRow, of which it is 1. Short rows end often; the inputs of a long one do not stay in
/// the L1 cache beside the weights.
struct RowSlowdown {
  DType dtype = DType::kF32;
  Curve by_k;  ///< of other k than kProfiledRow
};

/// Time to normalise and prepare an input (the call with no columns): x = tokens * k. Forking the
/// team is part of LinearCurve, so a linear call costs one of each and nothing more.
struct PrepareCurve {
  DType dtype = DType::kF32;  ///< of the weights that will be multiplied
  Curve seconds;
};

/// Time of an attention part: x = kv_heads * mean positions seen per token; `rows` = group *
/// tokens.
struct AttentionCurve {
  DType kv_dtype = DType::kF16;
  int64_t head_dim = 64;
  int64_t group = 1;
  int64_t tokens = 1;
  Curve seconds;
};

struct UnitProfile {
  Unit unit;
  Figure dram_read_per_s;           ///< bytes/s, all cores of the unit
  Figure cache_read_per_s;          ///< bytes/s over a buffer that fits the unit's last-level cache
  std::vector<LinearCurve> linear;  ///< grouped by dtype, tokens ascending
  std::vector<RowSlowdown> row_slowdowns;  ///< by dtype; empty = not measured
  std::vector<PrepareCurve> prepare;
  std::vector<AttentionCurve> attention;
  Curve embed;       ///< x = values of all rows; rows lie apart in memory
  Curve merge;       ///< x = floats of all states read
  Curve commit;      ///< x = bytes of keys and values of all layers, copied into caches that lie in
                     ///< memory
  Curve argmax;      ///< x = values
  Figure barrier_s;  ///< an empty team call: fork and join; a further call, where a unit enqueues
  /// What a call of attention and of the small stages takes beyond its curve when weights were
  /// streamed since the last like it: instructions and operands come from memory again. 0 = not
  /// measured.
  Figure cold_start_s = {};
  Figure stream_per_s = {};  ///< bytes/s of weights copied ahead from pinned host memory while they
                             ///< are multiplied; 0 = the unit does not stream
  /// Time of reads of the unit's own memory while its link copies into it, over their time without.
  /// 0 = not measured.
  Figure stream_slowdown = {};
  /// x = bytes of a result; seconds that writing it to host memory, too, takes beyond computing it.
  /// Empty where the unit's memory is the host's.
  Curve publish = {};
  /// What barrier_s is of a call in a recorded step, of one in a step that is not recorded (the
  /// executor records all). 0 = the unit does not enqueue.
  Figure plain_launch_s = {};
};

/// From one unit to another: a flag, and what a unit with a memory of its own must copy.
struct Link {
  std::string from;
  std::string to;
  Figure latency_s;     ///< one-way hand-off of a flag
  Curve copy = {};      ///< x = bytes of a result that `to` copies; empty where nothing is copied
  bool direct = false;  ///< from the memory of `from`, not from the host's
};

/// What units streaming weights of one dtype at once reach of the bandwidth that bare reads do. CPU
/// units stream in step, as the stages of a layer do.
struct StreamShare {
  DType dtype;
  Figure share;  ///< > 0, mostly below 1: decoding leaves gaps, and units wait for each other
};

/// "gpu0.streamed": the link of a unit, in plans a unit's streamed weights.
inline constexpr std::string_view kStreamedSuffix = ".streamed";
constexpr bool is_link_name(std::string_view name) { return name.ends_with(kStreamedSuffix); }
constexpr std::string_view unit_of_link(std::string_view name) {
  return name.substr(0, name.size() - kStreamedSuffix.size());
}

/// Bandwidth of a memory when this set of units, and links over which weights are streamed from it,
/// reads it at once.
struct Contention {
  std::vector<std::string> units;    ///< names of units and of links
  Figure total_per_s;                ///< bytes/s of bare reads, all together
  std::vector<StreamShare> streams;  ///< of linear kernels, one token
  /// Clock and core sharing: time of compute-bound work of units running at once over alone (1 =
  /// independent).
  Figure compute_slowdown;
};

/// The probe that tags figures: virtual cores move, see ../shared/peers.md.
struct Probe {
  double handoff_s = 0;        ///< one-way hand-off between the first two cores; 0 on one core
  double dram_read_per_s = 0;  ///< all cores at once, 20 ms
  /// One core at a time, mean of the first two; 0 = not probed. What the others of the host leave
  /// to one core changes where the rate of all cores does not.
  double core_read_per_s = 0;
  /// flop/s of each core on a kernel that stays in its cache, all at once: a sibling thread that
  /// others use takes a quarter of it. Empty = not probed.
  std::vector<double> compute_per_s = {};
};

struct Conditions {
  std::string state;         ///< "near", "far" or "stolen": most figures were measured in it
  Probe probe;               ///< median over the profile
  int measured_outside = 0;  ///< figures that could only be had in another state
};

struct CacheLevel {
  int level = 0;
  int64_t bytes = 0;
  int64_t sharing_cores = 1;
};

struct Machine {
  std::string name;        ///< "zen4-2c"
  std::string cpu;         ///< model name as the CPU says it
  std::vector<int> cores;  ///< logical CPUs this process may use
  std::vector<CacheLevel> caches;
  int64_t memory_bytes = 0;  ///< the smaller of RAM and the cgroup's limit
  std::string isas;          ///< runnable kernel sets, best first, comma-separated
  std::string kernel;        ///< uname -r

  /// Of the largest cache; 0 where none is known.
  int64_t last_level_bytes() const {
    int64_t bytes = 0;
    for (const CacheLevel& cache : caches) bytes = std::max(bytes, cache.bytes);
    return bytes;
  }
};

struct MachineProfile {
  int version = 1;
  Machine machine;
  std::string fingerprint;  ///< of `machine`, units and the tool version; plans name it
  std::string date;         ///< ISO 8601
  std::string tool_version;
  Conditions conditions;
  std::vector<UnitProfile> units;
  std::vector<Link> links;
  std::vector<Contention> contention;
};

}  // namespace tandem
