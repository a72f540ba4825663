// What one task costs on one unit of a measured machine, alone, and what units running at once do
// to each other.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "profiles/machine_profile.h"
#include "sim/curve_family.h"
#include "sim/exchange.h"
#include "sim/model_spec.h"
#include "sim/task_graph.h"

namespace tandem {

struct TaskCost {
  double seconds = 0;       ///< alone on its lane
  double spread = 0;        ///< relative interquartile range of the figures behind it
  double memory_bytes = 0;  ///< demand on the lane's memory over `seconds`, in bytes of bare reads;
                            ///< 0 = cache-resident
  bool extrapolated = false;  ///< outside what was measured
};

/// Prices tasks of one model on one machine. Unit i of a plan is `units[i]` of the profile by name.
/// What a profile has no curve for is priced as a read of its bytes at the unit's bandwidth, and
/// counts as extrapolated.
class CostModel {
 public:
  /// Error where the plan names a unit the profile lacks, or streams to one that cannot or was not
  /// measured. A dtype that was not measured is priced
  /// from the nearest measured one by bytes and reported by unmeasured(). The plan has passed
  /// check_plan; `machine` must outlive the cost model. `residents`, bit m = memory m: what is read
  /// of it stays in the last-level cache; without it, as the plan's own decode step has it.
  CostModel(const ModelSpec& model, const MachineProfile& machine, const Plan& plan,
            std::optional<uint64_t> residents = {});

  TaskCost cost(const Task& task) const;
  /// One-way hand-off from unit a to unit b (0 within a unit). A link that was not measured costs
  /// what its opposite does, or else the slowest one measured.
  double handoff_s(int from, int to) const;
  /// Time that a unit takes to copy results of others into its memory, one after another.
  double receive_s(int unit, const std::vector<Transfer>& transfers) const;
  /// Time that a unit takes to write a result of so many bytes to host memory, too; 0 where that
  /// was not measured.
  double publish_s(int unit, double bytes) const;
  /// Units with a memory of their own copy what others computed.
  const UnitMemories& memories() const { return memories_; }
  /// Bytes/s of weights over a unit's link, when nothing disturbs it; 0 where it cannot stream.
  double stream_per_s(int unit) const { return streaming(unit).median; }
  /// Bytes/s that the lanes of `active` (bit i = lane i, see lane_of()) can draw together from the
  /// memory they share: measured for that set, or for the smallest set that holds it, or else the
  /// sum of what each draws alone; but copies that were not measured beside units of the host's
  /// memory draw no more with them than units do.
  double capacity_per_s(uint64_t active_mask) const;
  /// Time over time alone that units of `active` need for compute-bound work when its lanes run at
  /// once:
  /// measured for that set, or else the largest of the sets within it, or 1.
  double compute_slowdown(uint64_t active_mask) const;
  /// Time over time alone that a unit needs while its link copies into its memory; 1 where that was
  /// not measured.
  double stream_slowdown(int unit) const;
  /// Whether a lane is a unit's link.
  bool is_link(int lane) const { return lane >= num_units(); }
  int link_of(int unit) const { return num_units() + unit; }
  /// Memory that a lane draws on, counted from 0 in order of units. Copies draw on the memory of
  /// CPU units.
  int memory_of(int lane) const {
    return is_link(lane) ? host_memory_ : units_[static_cast<size_t>(lane)].memory;
  }
  int num_memories() const;
  /// Dtypes of the model that the profile has no curve for.
  std::vector<DType> unmeasured() const { return unmeasured_; }
  /// The format of the plan's KV cache, where a unit's attention was measured in others alone: it
  /// is priced from one of them by bytes.
  std::optional<DType> unmeasured_kv() const { return unmeasured_kv_; }
  /// Whether the weights, keys and values that the CPU units of its memory read in a decode step of
  /// the plan's workload stay in the last-level cache. Never of a CUDA unit, which does not read
  /// through that cache.
  bool cache_resident(int unit) const { return units_[static_cast<size_t>(unit)].resident; }

 private:
  /// Curves of the kernels of one dtype.
  struct DTypeCost {
    CurveFamily linear;              ///< axis tokens
    const Curve* prepare = nullptr;  ///< null = not measured
    Curve row_slowdown;              ///< of one token from memory, over 1 / k; empty = none
    bool measured = false;           ///< false: the curves are those of the nearest dtype, if any
    double draw = 1;  ///< bytes of bare reads that a byte of this dtype takes the place of
  };
  struct UnitCost {
    const UnitProfile* profile = nullptr;
    int memory = 0;
    bool resident = false;
    std::array<DTypeCost, kDTypes.size()> dtypes;
    CurveFamily attention;        ///< axis rows, of the nearest head_dim and group
    double attention_scale = 1;   ///< bytes of a position over those of the curves
    const Curve* copy = nullptr;  ///< of results in host memory; null = not measured
  };
  struct ContentionSet {
    uint64_t mask = 0;  ///< lanes of the plan that are in it
    int size = 0;       ///< others that were measured with them count too
    double total_per_s = 0;
    double compute_slowdown = 1;
  };

  static bool reads_through_cache(const UnitCost& unit) {
    return unit.profile->unit.kind == UnitKind::kCpu;
  }
  void find_units(const MachineProfile& machine, const Plan& plan);
  uint64_t find_residents(const MachineProfile& machine, const ModelSpec& model,
                          const Plan& plan) const;
  void find_links(const MachineProfile& machine, const Plan& plan);
  void find_copies(const MachineProfile& machine, const Plan& plan);
  void find_host(const MachineProfile& machine);
  void check_streams(const MachineProfile& machine, const Plan& plan) const;
  void find_contention(const MachineProfile& machine, const Plan& plan);
  void find_linear(UnitCost& unit, std::set<DType> dtypes);
  void find_draws(const MachineProfile& machine);
  void find_attention(UnitCost& unit, DType kv_dtype);
  void find_unmeasured(const std::set<DType>& used);

  TaskCost linear(const UnitCost& unit, const Task& task) const;
  TaskCost attention(const UnitCost& unit, const Task& task) const;
  /// `times` calls on a curve's `x`.
  static TaskCost small_stage(const UnitCost& unit, const Curve& curve, double x, double times,
                              double bytes);
  static CurveValue cold_start(const UnitCost& unit);
  TaskCost copy(const Task& task) const;
  int num_units() const { return static_cast<int>(units_.size()); }
  size_t pair(int from, int to) const {
    return static_cast<size_t>(from) * units_.size() + static_cast<size_t>(to);
  }
  const Figure& streaming(int unit) const {
    return units_[static_cast<size_t>(unit)].profile->stream_per_s;
  }
  /// Bytes/s of a lane that draws alone.
  double alone_per_s(size_t lane) const;
  /// Reading `bytes` once, for want of a curve.
  static CurveValue roofline(const UnitCost& unit, double bytes);

  int64_t hidden_size_;
  int64_t head_dim_;
  int64_t group_;
  std::vector<UnitCost> units_;
  UnitMemories memories_;
  int host_memory_ = 0;            ///< where there is no CPU unit, one that nobody else reads
  double host_per_s_ = 0;          ///< the most that units of it were measured to read
  std::vector<double> handoff_s_;  ///< [from x to]
  /// [from x to] of results in the other unit's memory; null = not measured
  std::vector<const Curve*> direct_copies_;
  std::vector<ContentionSet> contention_;
  std::vector<DType> unmeasured_;
  std::optional<DType> unmeasured_kv_;
};

}  // namespace tandem
