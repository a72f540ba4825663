#include "profiles/probe.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>

#include "kernels/error.h"
#include "profiles/probe_bench.h"
#include "profiles/profile_yaml.h"
#include "profiles/topology.h"

namespace tandem {
namespace {

// Below the promised 15 and 90 s, since the last case, closing and writing come on top.
constexpr double kQuickSeconds = 12.5;
constexpr double kFullSeconds = 80;
constexpr int kQuickSamples = 15;
constexpr int kFullSamples = 30;

/// max_flops lets a team of several cores have enough columns to share in a prefill of the most
/// tokens.
Grid all_points(bool quick) {
  if (quick)
    return {.tokens = {1, 4, 16, 64, 256},
            .dram_columns = {64, 512, 4096, 32768},
            .cache_columns = {64, 1024},
            .attention_tokens = {1, 8, 256},
            .rows = {1, 16, 256},
            .contexts = {0, 256, 1024, 4096},
            .head_dims = {64, 128},
            .groups = {1, 4, 8},
            .max_flops = int64_t{1} << 30};
  return {.tokens = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
          .dram_columns = {16, 64, 256, 1024, 4096, 16384, 65536},
          .cache_columns = {16, 64, 256, 1024, 4096},
          .attention_tokens = {1, 4, 16, 64, 512},
          .rows = {1, 16, 256},
          .contexts = {0, 256, 1024, 4096, 8192},
          .head_dims = {64, 128},
          .groups = {1, 2, 4, 8},
          .max_flops = int64_t{1} << 32};
}

Grid grid_for(const ProfileOptions& options) {
  Grid grid = all_points(options.quick);
  const auto too_wide = [&](int64_t tokens) { return tokens > options.max_tokens; };
  std::erase_if(grid.tokens, too_wide);
  std::erase_if(grid.attention_tokens, too_wide);
  std::erase_if(grid.rows, too_wide);
  return grid;
}

std::string now_text() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

std::vector<DType> dtypes_of(const ProfileOptions& options) {
  std::vector<DType> dtypes = options.dtypes;
  if (dtypes.empty())
    for (const DTypeInfo& dtype : kCommonDTypes) dtypes.push_back(dtype.dtype);
  return dtypes;
}

MachineProfile lay_out(const Machine& machine, const std::vector<Unit>& units) {
  MachineProfile profile;
  profile.machine = machine;
  profile.tool_version = kToolVersion;
  profile.date = now_text();
  for (const Unit& unit : units) {
    profile.units.emplace_back();
    profile.units.back().unit = unit;
  }
  profile.fingerprint = profile_fingerprint(profile);
  return profile;
}

std::vector<Case> cases_of(const std::vector<std::unique_ptr<UnitBench>>& benches, const Grid& grid,
                           MachineProfile& profile) {
  std::vector<Case> cases;
  int next_curve = 0;
  for (const auto& bench : benches) {
    add_memory_cases(*bench, cases);
    add_small_cases(*bench, grid, cases);
  }
  add_contention_cases(benches, profile, cases);
  add_link_cases(benches, profile, cases);
  for (const auto& bench : benches) {
    add_linear_cases(*bench, grid, next_curve, cases);
    add_attention_cases(*bench, grid, next_curve, cases);
  }
  return cases;
}

/// Takes out the points that there was no time for.
void drop_unmeasured(UnitProfile& profile) {
  const auto drop = [](Curve& curve) {
    std::erase_if(curve.points, [](const CurvePoint& point) { return point.y.median <= 0; });
  };
  for (LinearCurve& curve : profile.linear) {
    drop(curve.from_dram);
    drop(curve.from_cache);
  }
  for (RowSlowdown& slowdown : profile.row_slowdowns) drop(slowdown.by_k);
  std::erase_if(profile.row_slowdowns, [](const RowSlowdown& of) { return of.by_k.empty(); });
  for (PrepareCurve& curve : profile.prepare) drop(curve.seconds);
  for (AttentionCurve& curve : profile.attention) drop(curve.seconds);
}

double rounded(double value, int digits) {
  if (value == 0) return 0;
  return std::strtod(fmt::format("{:.{}g}", value, digits).c_str(), nullptr);
}

/// As many digits as mean something, so that profiles stay readable.
void round_figure(Figure& figure) {
  figure.median = rounded(figure.median, 5);
  figure.spread = rounded(figure.spread, 2);
}

void round_figures(MachineProfile& profile) {
  const auto round_curve = [](Curve& curve) {
    for (CurvePoint& point : curve.points) round_figure(point.y);
  };
  for (UnitProfile& unit : profile.units) {
    for (Figure* figure :
         {&unit.dram_read_per_s, &unit.cache_read_per_s, &unit.barrier_s, &unit.cold_start_s,
          &unit.stream_per_s, &unit.stream_slowdown, &unit.plain_launch_s})
      round_figure(*figure);
    for (LinearCurve& curve : unit.linear) {
      round_curve(curve.from_dram);
      round_curve(curve.from_cache);
    }
    for (RowSlowdown& slowdown : unit.row_slowdowns) round_curve(slowdown.by_k);
    for (PrepareCurve& curve : unit.prepare) round_curve(curve.seconds);
    for (AttentionCurve& curve : unit.attention) round_curve(curve.seconds);
    for (Curve* curve : {&unit.embed, &unit.merge, &unit.commit, &unit.argmax, &unit.publish})
      round_curve(*curve);
  }
  for (Link& link : profile.links) {
    round_figure(link.latency_s);
    round_curve(link.copy);
  }
  for (Contention& set : profile.contention) {
    round_figure(set.total_per_s);
    for (StreamShare& stream : set.streams) round_figure(stream.share);
    round_figure(set.compute_slowdown);
  }
  Probe& probe = profile.conditions.probe;
  for (double* value : {&probe.handoff_s, &probe.dram_read_per_s, &probe.core_read_per_s})
    *value = rounded(*value, 5);
  for (double& rate : probe.compute_per_s) rate = rounded(rate, 5);
}

}  // namespace

std::unique_ptr<Device> open_device(const Unit& unit, bool yield) {
  if (unit.kind == UnitKind::kCpu)
    return open_cpu_device({.cores = unit.cores, .isa = unit.isa, .yield = yield});
  return open_cuda_device({.index = unit.index, .core = unit.cores.front(), .yield = yield});
}

MachineProfile profile_machine(const Machine& machine, const std::vector<Unit>& units,
                               const ProfileOptions& options) {
  const double start_s = steady_now_s();
  const double limit_s = options.limit_s > 0 ? options.limit_s
                         : options.quick     ? kQuickSeconds
                                             : kFullSeconds;
  if (options.progress) options.progress(0, "placing weights");
  MachineProfile profile = lay_out(machine, units);
  std::map<std::string, SharedMemory> memories;
  const auto benches = open_benches(machine, profile, dtypes_of(options), memories);
  const std::vector<Case> cases = cases_of(benches, grid_for(options), profile);
  StateProbe probe(machine);
  profile.conditions =
      measure(cases, {.limit_s = std::max(0.0, limit_s - (steady_now_s() - start_s)),
                      .samples = options.limit_s > 0 ? std::numeric_limits<int>::max()
                                 : options.quick     ? kQuickSamples
                                                     : kFullSamples,
                      .now_s = steady_now_s,
                      .probe = [&] { return probe.measure(); },
                      .progress = options.progress});
  for (UnitProfile& unit : profile.units) {
    drop_unmeasured(unit);
    subtract_preparation(unit);
  }
  round_figures(profile);
  return profile;
}

}  // namespace tandem
