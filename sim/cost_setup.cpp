// CostModel's constructor: finds, once, what a plan's tasks will be priced from.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <tuple>

#include "kernels/error.h"
#include "sim/cost.h"
#include "sim/residency.h"

namespace tandem {
namespace {

double log_distance(double a, double b) { return std::abs(std::log(a / b)); }

double bytes_per_element(DType dtype) {
  return static_cast<double>(info(dtype).block_bytes) / static_cast<double>(info(dtype).block_size);
}

/// Whether a unit is a CUDA unit that does not share the memory of any CPU unit.
bool works_apart(const Unit& unit, const MachineProfile& machine) {
  return unit.kind == UnitKind::kCuda &&
         std::none_of(machine.units.begin(), machine.units.end(), [&](const UnitProfile& other) {
           return other.unit.kind == UnitKind::kCpu && other.unit.memory == unit.memory;
         });
}

/// -1 where the plan has no such unit.
int index_of(const std::vector<std::string>& units, std::string_view name) {
  const auto found = std::find(units.begin(), units.end(), name);
  return found == units.end() ? -1 : static_cast<int>(found - units.begin());
}

}  // namespace

CostModel::CostModel(const ModelSpec& model, const MachineProfile& machine, const Plan& plan,
                     std::optional<uint64_t> residents)
    : hidden_size_(model.hidden_size), head_dim_(model.head_dim), group_(model.group()) {
  find_units(machine, plan);
  const uint64_t staying = residents ? *residents : find_residents(machine, model, plan);
  for (UnitCost& unit : units_)
    unit.resident = reads_through_cache(unit) && (staying >> unit.memory & 1);
  find_links(machine, plan);
  find_host(machine);
  check_streams(machine, plan);
  find_contention(machine, plan);
  const std::set<DType> used = used_dtypes(model);
  for (UnitCost& unit : units_) {
    find_linear(unit, used);
    find_attention(unit, plan.kv_dtype);
  }
  find_draws(machine);
  find_unmeasured(used);
}

void CostModel::find_units(const MachineProfile& machine, const Plan& plan) {
  std::vector<std::string> memories;
  for (const std::string& name : plan.units) {
    const auto found =
        std::find_if(machine.units.begin(), machine.units.end(),
                     [&](const UnitProfile& profile) { return profile.unit.name == name; });
    if (found == machine.units.end()) {
      std::string known;
      for (const UnitProfile& profile : machine.units)
        known += (known.empty() ? "" : ", ") + profile.unit.name;
      throw Error(fmt::format("plan: unit {} is not one of machine {}: {}", name,
                              machine.machine.name, known));
    }
    int memory = index_of(memories, found->unit.memory);
    if (memory < 0) {
      memory = static_cast<int>(memories.size());
      memories.push_back(found->unit.memory);
    }
    units_.emplace_back().profile = &*found;
    units_.back().memory = memory;
    if (works_apart(found->unit, machine)) memories_.own |= uint64_t{1} << (units_.size() - 1);
  }
}

/// The memory that copies read is the one of the first CPU unit.
void CostModel::find_host(const MachineProfile& machine) {
  host_memory_ = num_memories();
  const auto first = std::find_if(units_.begin(), units_.end(), [](const UnitCost& unit) {
    return unit.profile->unit.kind == UnitKind::kCpu;
  });
  if (first == units_.end()) return;
  host_memory_ = first->memory;
  const auto reads_it = [&](const std::string& name) {
    return std::any_of(machine.units.begin(), machine.units.end(), [&](const UnitProfile& unit) {
      return unit.unit.name == name && unit.unit.memory == first->profile->unit.memory;
    });
  };
  for (const UnitProfile& unit : machine.units)
    if (reads_it(unit.unit.name)) host_per_s_ = std::max(host_per_s_, unit.dram_read_per_s.median);
  for (const Contention& set : machine.contention)
    if (std::all_of(set.units.begin(), set.units.end(), reads_it))
      host_per_s_ = std::max(host_per_s_, set.total_per_s.median);
}

void CostModel::check_streams(const MachineProfile& machine, const Plan& plan) const {
  const uint64_t streaming = streaming_units(plan);
  if (streaming == 0) return;
  std::vector<Unit> units;
  for (const UnitCost& unit : units_) units.push_back(unit.profile->unit);
  check_streaming_units(plan, units, "plan");
  for (int unit = 0; unit < num_units(); ++unit)
    if ((streaming >> unit & 1) && stream_per_s(unit) <= 0)
      throw Error(
          fmt::format("plan: {} streams weights, but machine {} has no stream_per_s of it: "
                      "profile again, or keep them resident",
                      units[static_cast<size_t>(unit)].name, machine.machine.name));
}

uint64_t CostModel::find_residents(const MachineProfile& machine, const ModelSpec& model,
                                   const Plan& plan) const {
  const std::vector<double> bytes_of_unit = decode_bytes(model, plan);
  std::vector<double> bytes_of_memory(units_.size());
  for (size_t unit = 0; unit < units_.size(); ++unit)
    if (reads_through_cache(units_[unit]))
      bytes_of_memory[static_cast<size_t>(units_[unit].memory)] += bytes_of_unit[unit];
  uint64_t residents = 0;
  for (int memory = 0; memory < num_memories(); ++memory)
    if (bytes_of_memory[static_cast<size_t>(memory)] < resident_limit_bytes(machine))
      residents |= uint64_t{1} << memory;
  return residents;
}

void CostModel::find_links(const MachineProfile& machine, const Plan& plan) {
  const size_t n = units_.size();
  double slowest = 0;
  for (const Link& link : machine.links) slowest = std::max(slowest, link.latency_s.median);
  const auto measured = [&](size_t from, size_t to) {
    const auto found =
        std::find_if(machine.links.begin(), machine.links.end(), [&](const Link& link) {
          return link.from == plan.units[from] && link.to == plan.units[to];
        });
    return found == machine.links.end() ? -1.0 : found->latency_s.median;
  };
  handoff_s_.assign(n * n, 0.0);
  for (size_t from = 0; from < n; ++from)
    for (size_t to = 0; to < n; ++to) {
      if (from == to) continue;
      double seconds = measured(from, to);
      if (seconds < 0) seconds = measured(to, from);
      handoff_s_[from * n + to] = seconds < 0 ? slowest : seconds;
    }
  find_copies(machine, plan);
}

/// Results are copied from host memory, or directly from the unit that computed them.
void CostModel::find_copies(const MachineProfile& machine, const Plan& plan) {
  direct_copies_.assign(units_.size() * units_.size(), nullptr);
  memories_.direct.assign(units_.size(), 0);
  for (const Link& link : machine.links) {
    const int from = index_of(plan.units, link.from), to = index_of(plan.units, link.to);
    if (to < 0 || link.copy.empty()) continue;
    if (!link.direct) {
      units_[static_cast<size_t>(to)].copy = &link.copy;
    } else if (from >= 0) {
      memories_.direct[static_cast<size_t>(to)] |= uint64_t{1} << from;
      direct_copies_[pair(from, to)] = &link.copy;
    }
  }
}

void CostModel::find_contention(const MachineProfile& machine, const Plan& plan) {
  for (const Contention& measured : machine.contention) {
    uint64_t mask = 0;
    for (const std::string& name : measured.units) {
      const bool link = is_link_name(name);
      const int unit = index_of(plan.units, link ? unit_of_link(name) : name);
      const size_t lane = static_cast<size_t>(unit) + (link ? plan.units.size() : 0);
      if (unit >= 0) mask |= uint64_t{1} << lane;
    }
    contention_.push_back({mask, static_cast<int>(measured.units.size()),
                           measured.total_per_s.median, measured.compute_slowdown.median});
  }
}

/// Over 1 / k, ascending: what short rows take longer is something for each row's end.
static Curve over_row_ends(const Curve& by_k) {
  Curve curve{{{1.0 / kProfiledRow, {1, 0}}}};
  for (const CurvePoint& point : by_k.points) curve.points.push_back({1 / point.x, point.y});
  std::sort(curve.points.begin(), curve.points.end(),
            [](const CurvePoint& a, const CurvePoint& b) { return a.x < b.x; });
  return curve;
}

/// For the dtypes that the model uses and those that were measured.
void CostModel::find_linear(UnitCost& unit, std::set<DType> dtypes) {
  for (const LinearCurve& curve : unit.profile->linear) dtypes.insert(curve.dtype);
  for (const DType wanted : dtypes) {
    const auto distance = [&](DType dtype) {
      // The dtype itself comes before others of its size.
      return std::tuple(dtype != wanted,
                        log_distance(bytes_per_element(dtype), bytes_per_element(wanted)));
    };
    const auto nearer = [&](const auto& a, const auto& b) {
      return distance(a.dtype) < distance(b.dtype);
    };
    DTypeCost& cost = unit.dtypes[static_cast<size_t>(wanted)];
    const std::vector<LinearCurve>& curves = unit.profile->linear;
    const auto nearest = std::min_element(curves.begin(), curves.end(), nearer);
    for (const LinearCurve& curve : curves) {
      if (curve.dtype != nearest->dtype) continue;
      const bool cache = (unit.resident && !curve.from_cache.empty()) || curve.from_dram.empty();
      cost.linear.add(static_cast<double>(curve.tokens),
                      cache ? curve.from_cache : curve.from_dram);
      cost.measured = curve.dtype == wanted;
    }
    const std::vector<RowSlowdown>& slowdowns = unit.profile->row_slowdowns;
    const auto slowdown = std::min_element(slowdowns.begin(), slowdowns.end(), nearer);
    if (slowdown != slowdowns.end() && !unit.resident)
      cost.row_slowdown = over_row_ends(slowdown->by_k);
    const std::vector<PrepareCurve>& prepares = unit.profile->prepare;
    const auto prepare = std::min_element(prepares.begin(), prepares.end(), nearer);
    if (prepare != prepares.end()) cost.prepare = &prepare->seconds;
  }
}

/// From the largest set of units of its memory that a unit is in: where most units read, memory
/// binds most.
void CostModel::find_draws(const MachineProfile& machine) {
  const auto memory_of = [&](const std::string& name) {
    const auto at = std::find_if(machine.units.begin(), machine.units.end(),
                                 [&](const UnitProfile& p) { return p.unit.name == name; });
    return at == machine.units.end() ? std::string() : at->unit.memory;
  };
  for (UnitCost& unit : units_) {
    const Contention* largest = nullptr;
    for (const Contention& set : machine.contention)
      if (std::all_of(set.units.begin(), set.units.end(),
                      [&](const std::string& name) {
                        return !is_link_name(name) && memory_of(name) == unit.profile->unit.memory;
                      }) &&
          std::find(set.units.begin(), set.units.end(), unit.profile->unit.name) !=
              set.units.end() &&
          (largest == nullptr || set.units.size() > largest->units.size()))
        largest = &set;
    if (largest == nullptr) continue;
    for (const StreamShare& stream : largest->streams)
      unit.dtypes[static_cast<size_t>(stream.dtype)].draw = 1 / stream.share.median;
  }
}

void CostModel::find_attention(UnitCost& unit, DType kv_dtype) {
  const auto distance = [&](const AttentionCurve& curve) {
    return std::tuple(
        curve.kv_dtype != kv_dtype,
        log_distance(static_cast<double>(curve.head_dim), static_cast<double>(head_dim_)) +
            log_distance(static_cast<double>(curve.group), static_cast<double>(group_)));
  };
  const std::vector<AttentionCurve>& curves = unit.profile->attention;
  const auto nearest = std::min_element(
      curves.begin(), curves.end(), [&](auto& a, auto& b) { return distance(a) < distance(b); });
  if (nearest == curves.end()) return;
  if (nearest->kv_dtype != kv_dtype) unmeasured_kv_ = kv_dtype;
  for (const AttentionCurve& curve : curves)
    if (curve.kv_dtype == nearest->kv_dtype && curve.head_dim == nearest->head_dim &&
        curve.group == nearest->group)
      unit.attention.add(static_cast<double>(curve.group * curve.tokens), curve.seconds);
  unit.attention_scale = static_cast<double>(row_bytes(kv_dtype, head_dim_)) /
                         static_cast<double>(row_bytes(nearest->kv_dtype, nearest->head_dim));
}

void CostModel::find_unmeasured(const std::set<DType>& used) {
  for (const DType dtype : used) {
    const auto measures = [&](const UnitCost& unit) {
      return unit.dtypes[static_cast<size_t>(dtype)].measured;
    };
    if (!std::all_of(units_.begin(), units_.end(), measures)) unmeasured_.push_back(dtype);
  }
}

}  // namespace tandem
