#include "sim/cost.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace tandem {
namespace {

/// Sums figures whose errors go together: spreads weigh by their time.
class CostSum {
 public:
  void add(const CurveValue& value) {
    cost_.seconds += value.y;
    spread_s_ += value.y * value.spread;
    cost_.extrapolated = cost_.extrapolated || value.extrapolated;
  }
  TaskCost without_demand() const {
    TaskCost cost = cost_;
    cost.spread = cost.seconds > 0 ? spread_s_ / cost.seconds : 0;
    return cost;
  }
  TaskCost with_demand(double bytes) const {
    TaskCost cost = without_demand();
    cost.memory_bytes = bytes;
    return cost;
  }

 private:
  TaskCost cost_;
  double spread_s_ = 0;
};

CurveValue read(const Figure& bytes_per_s, double bytes) {
  return {.y = bytes / bytes_per_s.median, .spread = bytes_per_s.spread, .extrapolated = false};
}

/// Bytes of the task's matrices of one dtype; 0 where an earlier matrix has it too.
double bytes_of_new_dtype(const Task& task, int matrix) {
  const DType dtype = task.matrices[static_cast<size_t>(matrix)].dtype;
  double bytes = 0;
  for (int i = 0; i < task.num_matrices; ++i) {
    const MatrixWork& work = task.matrices[static_cast<size_t>(i)];
    if (work.dtype != dtype) continue;
    if (i < matrix) return 0;
    bytes += static_cast<double>(work.bytes());
  }
  return bytes;
}

}  // namespace

TaskCost CostModel::cost(const Task& task) const {
  const UnitCost& unit = units_[static_cast<size_t>(task.unit)];
  const UnitProfile& profile = *unit.profile;
  switch (task.stage) {
    case Stage::kEmbed:
      return small_stage(unit, profile.embed, static_cast<double>(task.tokens * hidden_size_), 1,
                         task.bytes);
    case Stage::kAttention:
      return attention(unit, task);
    case Stage::kMerge:
      return small_stage(unit, profile.merge, task.bytes / sizeof(float), 1, task.bytes);
    case Stage::kSample:
      return small_stage(unit, profile.argmax, static_cast<double>(task.range.size()),
                         static_cast<double>(task.tokens), task.bytes);
    case Stage::kCommit:
      return small_stage(unit, profile.commit, task.bytes, 1, task.bytes);
    case Stage::kCopy:
      return copy(task);
    case Stage::kQkv:
    case Stage::kOut:
    case Stage::kGateUp:
    case Stage::kDown:
    case Stage::kLmHead:
      break;
  }
  return linear(unit, task);
}

/// By what rows of k were measured to take; beyond those that were, as the nearest of them.
static void slow_down(CurveValue& value, int64_t k, const Curve& by_row_ends) {
  const CurveValue slowdown = by_row_ends.at(std::clamp(
      1 / static_cast<double>(k), by_row_ends.points.front().x, by_row_ends.points.back().x));
  value.y *= slowdown.y;
  value.spread = std::hypot(value.spread, slowdown.spread);
}

/// Matrices of one dtype are one kernel over their bytes: a stage forks and joins once.
TaskCost CostModel::linear(const UnitCost& unit, const Task& task) const {
  CostSum sum;
  double drawn_bytes = 0;
  for (int i = 0; i < task.num_matrices; ++i) {
    const double bytes = bytes_of_new_dtype(task, i);
    if (bytes == 0) continue;
    const MatrixWork& work = task.matrices[static_cast<size_t>(i)];
    const DTypeCost& dtype = unit.dtypes[static_cast<size_t>(work.dtype)];
    drawn_bytes += bytes * dtype.draw;
    if (dtype.prepare) sum.add(dtype.prepare->at(static_cast<double>(task.tokens * work.k)));
    CurveValue value = dtype.linear.empty()
                           ? roofline(unit, bytes)
                           : dtype.linear.at(static_cast<double>(task.tokens), bytes);
    value.extrapolated = value.extrapolated || !dtype.measured;
    if (task.tokens == 1 && !dtype.row_slowdown.empty())
      slow_down(value, work.k, dtype.row_slowdown);
    sum.add(value);
  }
  return unit.resident ? sum.without_demand() : sum.with_demand(drawn_bytes);
}

/// Its demand on memory does not count. Without a curve it is a read of its bytes.
TaskCost CostModel::small_stage(const UnitCost& unit, const Curve& curve, double x, double times,
                                double bytes) {
  CostSum sum;
  if (curve.empty()) {
    sum.add(roofline(unit, bytes));
  } else {
    CurveValue value = curve.at(x);
    value.y *= times;
    sum.add(value);
    sum.add(cold_start(unit));
  }
  return sum.without_demand();
}

/// Where nothing is streamed from memory, nothing goes cold.
CurveValue CostModel::cold_start(const UnitCost& unit) {
  const Figure& start = unit.profile->cold_start_s;
  return {.y = unit.resident ? 0 : start.median, .spread = start.spread, .extrapolated = false};
}

TaskCost CostModel::attention(const UnitCost& unit, const Task& task) const {
  CostSum sum;
  if (unit.attention.empty()) {
    sum.add(roofline(unit, task.bytes));
  } else {
    CurveValue value = unit.attention.at(static_cast<double>(group_ * task.tokens),
                                         static_cast<double>(task.kv_heads) * task.positions);
    value.y *= unit.attention_scale;
    sum.add(value);
    sum.add(cold_start(unit));
  }
  if (unit.resident) return sum.without_demand();
  // What was read faster than memory delivers came in part from cache.
  const double deliverable = sum.without_demand().seconds * unit.profile->dram_read_per_s.median;
  return sum.with_demand(std::min(task.bytes, deliverable));
}

TaskCost CostModel::copy(const Task& task) const {
  CostSum sum;
  sum.add(read(streaming(task.unit), task.bytes));
  return sum.with_demand(task.bytes);
}

double CostModel::receive_s(int unit, const std::vector<Transfer>& transfers) const {
  const UnitCost& to = units_[static_cast<size_t>(unit)];
  double seconds = 0;
  for (const Transfer& transfer : transfers) {
    const Curve* copy = transfer.from < 0 ? to.copy : direct_copies_[pair(transfer.from, unit)];
    if (copy != nullptr) {
      seconds += copy->at(transfer.bytes).y;
      continue;
    }
    // Not measured: a launch, and bytes as weights are streamed.
    seconds += to.profile->barrier_s.median;
    const double per_s = to.profile->stream_per_s.median;
    if (per_s > 0) seconds += transfer.bytes / per_s;
  }
  return seconds;
}

double CostModel::publish_s(int unit, double bytes) const {
  const Curve& publish = units_[static_cast<size_t>(unit)].profile->publish;
  return bytes > 0 && !publish.empty() ? publish.at(bytes).y : 0;
}

CurveValue CostModel::roofline(const UnitCost& unit, double bytes) {
  const UnitProfile& profile = *unit.profile;
  CurveValue value =
      read(unit.resident ? profile.cache_read_per_s : profile.dram_read_per_s, bytes);
  value.extrapolated = true;
  return value;
}

int CostModel::num_memories() const {
  int last = 0;
  for (const UnitCost& unit : units_) last = std::max(last, unit.memory);
  return last + 1;
}

double CostModel::handoff_s(int from, int to) const { return handoff_s_[pair(from, to)]; }

double CostModel::alone_per_s(size_t lane) const {
  return lane < units_.size() ? units_[lane].profile->dram_read_per_s.median
                              : streaming(static_cast<int>(lane - units_.size())).median;
}

double CostModel::capacity_per_s(uint64_t active_mask) const {
  double sum = 0, largest = 0;
  for (size_t lane = 0; lane < 2 * units_.size(); ++lane) {
    if (!(active_mask >> lane & 1)) continue;
    const double alone = alone_per_s(lane);
    sum += alone;
    largest = std::max(largest, alone);
  }
  const bool copies = active_mask >> units_.size() != 0;
  double total = copies && host_per_s_ > 0 ? std::min(sum, host_per_s_) : sum;
  int smallest = std::numeric_limits<int>::max();
  for (const ContentionSet& set : contention_) {
    if ((set.mask & active_mask) != active_mask || set.size >= smallest) continue;
    smallest = set.size;
    total = std::min(sum, set.total_per_s);
  }
  return std::max(total, largest);
}

double CostModel::stream_slowdown(int unit) const {
  return std::max(1.0, units_[static_cast<size_t>(unit)].profile->stream_slowdown.median);
}

double CostModel::compute_slowdown(uint64_t active_mask) const {
  double largest = 1;
  for (const ContentionSet& set : contention_) {
    if (std::popcount(set.mask) < set.size) continue;  // somebody else was at work, too
    if (set.mask == active_mask) return std::max(1.0, set.compute_slowdown);
    if ((set.mask & active_mask) == set.mask) largest = std::max(largest, set.compute_slowdown);
  }
  return largest;
}

}  // namespace tandem
