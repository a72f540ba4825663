#include "profiles/profile_read.h"

#include <fmt/format.h>

#include <algorithm>

#include "profiles/overrides.h"
#include "profiles/profile_yaml.h"

namespace tandem {
namespace {

constexpr int64_t kMaxCpu = 65535;        ///< no system numbers more logical CPUs
constexpr int64_t kMaxCudaDevice = 1023;  ///< nor more GPUs

double positive(const CheckedYaml& node) {
  const double value = node.number();
  if (value <= 0) node.fail(fmt::format("{} is not positive", node.text()));
  return value;
}

std::vector<int> read_cores(const CheckedYaml& node) {
  std::vector<int> cores;
  for (const CheckedYaml& item : node.items())
    cores.push_back(static_cast<int>(item.integer(0, kMaxCpu)));
  if (cores.empty()) node.fail("at least one core is needed");
  return cores;
}

/// `{median: 4.1e10, spread: 0.02}`, or a plain number as people write it in a what-if.
Figure read_figure(const CheckedYaml& node) {
  if (node.is_scalar()) return {positive(node), 0};
  node.allow_keys({"median", "spread"});
  return {positive(node.at("median")), node.at("spread").number(0)};
}

/// `[[x, y, spread], ...]`
Curve read_curve(const CheckedYaml& node) {
  Curve curve;
  for (const CheckedYaml& item : node.items()) {
    const std::vector<CheckedYaml> values = item.items();
    if (values.size() != 3) item.fail("a point is [x, y, spread]");
    const double x = positive(values[0]);
    if (!curve.empty() && x <= curve.points.back().x)
      values[0].fail(fmt::format("x ascends, but {} follows {}", x, curve.points.back().x));
    curve.points.push_back({x, {positive(values[1]), values[2].number(0)}});
  }
  if (curve.empty()) node.fail("a curve needs at least one point");
  return curve;
}

DType read_dtype(const CheckedYaml& node) {
  const auto dtype = parse_dtype(node.text());
  if (!dtype) node.fail(fmt::format("unknown dtype '{}'", node.text()));
  return *dtype;
}

std::vector<LinearCurve> read_linear(const CheckedYaml& node) {
  std::vector<LinearCurve> curves;
  for (const CheckedYaml& item : node.items()) {
    item.allow_keys({"dtype", "tokens", "from_dram", "from_cache"});
    LinearCurve curve{read_dtype(item.at("dtype")), item.at("tokens").integer(1),
                      read_curve(item.at("from_dram")), read_curve(item.at("from_cache"))};
    if (!curves.empty() && curves.back().dtype == curve.dtype &&
        curve.tokens <= curves.back().tokens)
      item.at("tokens").fail(fmt::format("tokens of one dtype ascend, but {} follows {}",
                                         curve.tokens, curves.back().tokens));
    curves.push_back(std::move(curve));
  }
  return curves;
}

/// A list of a dtype and what `read` makes of `key` each.
template <class OfDType, class Read>
std::vector<OfDType> read_by_dtype(const CheckedYaml& node, const char* key, const Read& read) {
  std::vector<OfDType> all;
  for (const CheckedYaml& item : node.items()) {
    item.allow_keys({"dtype", key});
    all.push_back({read_dtype(item.at("dtype")), read(item.at(key))});
  }
  return all;
}

std::vector<AttentionCurve> read_attention(const CheckedYaml& node) {
  std::vector<AttentionCurve> curves;
  for (const CheckedYaml& item : node.items()) {
    item.allow_keys({"kv_dtype", "head_dim", "group", "tokens", "seconds"});
    curves.push_back({read_dtype(item.at("kv_dtype")), item.at("head_dim").integer(1),
                      item.at("group").integer(1), item.at("tokens").integer(1),
                      read_curve(item.at("seconds"))});
  }
  return curves;
}

Unit read_unit(const CheckedYaml& node) {
  Unit unit;
  unit.name = node.at("name").text();
  const std::string kind = node.at("kind").text();
  if (kind != "cpu" && kind != "cuda")
    node.at("kind").fail(fmt::format("'{}' is neither cpu nor cuda", kind));
  unit.kind = kind == "cpu" ? UnitKind::kCpu : UnitKind::kCuda;
  if (unit.kind == UnitKind::kCuda) {
    unit.index = static_cast<int>(node.at("device").integer(0, kMaxCudaDevice));
    if (const auto bytes = node.find("memory_bytes")) unit.memory_bytes = bytes->integer(1);
  }
  unit.cores = read_cores(node.at("cores"));
  unit.isa = node.at("isa").text();
  unit.memory = node.at("memory").text();
  return unit;
}

UnitProfile read_unit_profile(const CheckedYaml& node) {
  node.allow_keys(
      {"name",         "kind",          "device",          "memory_bytes",     "cores",
       "isa",          "memory",        "dram_read_per_s", "cache_read_per_s", "barrier_s",
       "cold_start_s", "stream_per_s",  "stream_slowdown", "plain_launch_s",   "publish",
       "linear",       "row_slowdowns", "prepare",         "attention",        "embed",
       "merge",        "commit",        "argmax"});
  UnitProfile profile;
  profile.unit = read_unit(node);
  profile.dram_read_per_s = read_figure(node.at("dram_read_per_s"));
  profile.cache_read_per_s = read_figure(node.at("cache_read_per_s"));
  profile.barrier_s = read_figure(node.at("barrier_s"));
  if (const auto start = node.find("cold_start_s")) profile.cold_start_s = read_figure(*start);
  if (const auto rate = node.find("stream_per_s")) profile.stream_per_s = read_figure(*rate);
  if (const auto slowdown = node.find("stream_slowdown"))
    profile.stream_slowdown = read_figure(*slowdown);
  if (const auto launch = node.find("plain_launch_s"))
    profile.plain_launch_s = read_figure(*launch);
  if (const auto publish = node.find("publish")) profile.publish = read_curve(*publish);
  profile.linear = read_linear(node.at("linear"));
  if (const auto slowdowns = node.find("row_slowdowns"))
    profile.row_slowdowns = read_by_dtype<RowSlowdown>(*slowdowns, "by_k", read_curve);
  profile.prepare = read_by_dtype<PrepareCurve>(node.at("prepare"), "seconds", read_curve);
  profile.attention = read_attention(node.at("attention"));
  profile.merge = read_curve(node.at("merge"));
  profile.embed = read_curve(node.at("embed"));
  profile.commit = read_curve(node.at("commit"));
  profile.argmax = read_curve(node.at("argmax"));
  return profile;
}

std::vector<UnitProfile> read_units(const CheckedYaml& node) {
  std::vector<UnitProfile> units;
  for (const CheckedYaml& item : node.items()) {
    UnitProfile profile = read_unit_profile(item);
    for (const UnitProfile& other : units)
      if (other.unit.name == profile.unit.name)
        item.at("name").fail(fmt::format("there are two units named {}", profile.unit.name));
    units.push_back(std::move(profile));
  }
  if (units.empty()) node.fail("a machine needs at least one unit");
  return units;
}

bool is_unit(std::string_view name, const std::vector<UnitProfile>& units) {
  return std::any_of(units.begin(), units.end(),
                     [&](const UnitProfile& profile) { return profile.unit.name == name; });
}

std::string read_unit_name(const CheckedYaml& node, const std::vector<UnitProfile>& units) {
  const std::string name = node.text();
  if (!is_unit(name, units)) node.fail(fmt::format("there is no unit named '{}'", name));
  return name;
}

/// A unit, or the link of one.
std::string read_reader(const CheckedYaml& node, const std::vector<UnitProfile>& units) {
  const std::string name = node.text();
  return is_link_name(name) && is_unit(unit_of_link(name), units) ? name
                                                                  : read_unit_name(node, units);
}

std::vector<Link> read_links(const CheckedYaml& node, const std::vector<UnitProfile>& units) {
  std::vector<Link> links;
  for (const CheckedYaml& item : node.items()) {
    item.allow_keys({"from", "to", "latency_s", "copy", "direct"});
    Link link{read_unit_name(item.at("from"), units),
              read_unit_name(item.at("to"), units),
              read_figure(item.at("latency_s")),
              {}};
    if (const auto copy = item.find("copy")) link.copy = read_curve(*copy);
    if (const auto direct = item.find("direct")) link.direct = direct->boolean();
    links.push_back(std::move(link));
  }
  return links;
}

std::vector<Contention> read_contention(const CheckedYaml& node,
                                        const std::vector<UnitProfile>& units) {
  std::vector<Contention> sets;
  for (const CheckedYaml& item : node.items()) {
    item.allow_keys({"units", "total_per_s", "streams", "compute_slowdown"});
    Contention set;
    for (const CheckedYaml& name : item.at("units").items())
      set.units.push_back(read_reader(name, units));
    if (set.units.size() < 2) item.at("units").fail("contention is between at least two units");
    set.total_per_s = read_figure(item.at("total_per_s"));
    set.streams = read_by_dtype<StreamShare>(item.at("streams"), "share", read_figure);
    set.compute_slowdown = read_figure(item.at("compute_slowdown"));
    sets.push_back(std::move(set));
  }
  return sets;
}

Machine read_machine(const CheckedYaml& node) {
  node.allow_keys({"name", "cpu", "cores", "caches", "memory_bytes", "isas", "kernel"});
  Machine machine;
  machine.name = node.at("name").text();
  machine.cpu = node.at("cpu").text();
  machine.cores = read_cores(node.at("cores"));
  for (const CheckedYaml& cache : node.at("caches").items()) {
    cache.allow_keys({"level", "bytes", "sharing_cores"});
    machine.caches.push_back({static_cast<int>(cache.at("level").integer(1)),
                              cache.at("bytes").integer(1), cache.at("sharing_cores").integer(1)});
  }
  machine.memory_bytes = node.at("memory_bytes").integer(1);
  machine.isas = node.at("isas").text();
  machine.kernel = node.at("kernel").text();
  return machine;
}

Conditions read_conditions(const CheckedYaml& node) {
  node.allow_keys({"state", "handoff_s", "dram_read_per_s", "core_read_per_s", "compute_per_s",
                   "measured_outside"});
  Conditions conditions{node.at("state").text(),
                        {node.at("handoff_s").number(0), positive(node.at("dram_read_per_s"))},
                        static_cast<int>(node.at("measured_outside").integer(0))};
  if (const auto rate = node.find("core_read_per_s"))
    conditions.probe.core_read_per_s = rate->number(0);
  if (const auto rates = node.find("compute_per_s"))
    for (const CheckedYaml& rate : rates->items())
      conditions.probe.compute_per_s.push_back(positive(rate));
  return conditions;
}

}  // namespace

MachineProfile profile_of(const CheckedYaml& root) {
  root.allow_keys({"version", "fingerprint", "date", "tool_version", "machine", "conditions",
                   "units", "links", "contention"});
  MachineProfile profile;
  profile.version = static_cast<int>(root.at("version").integer(1));
  if (profile.version != 1)
    root.at("version").fail(fmt::format("version {} is not 1; profile again", profile.version));
  profile.fingerprint = root.at("fingerprint").text();
  profile.date = root.at("date").text();
  profile.tool_version = root.at("tool_version").text();
  profile.machine = read_machine(root.at("machine"));
  profile.conditions = read_conditions(root.at("conditions"));
  profile.units = read_units(root.at("units"));
  profile.links = read_links(root.at("links"), profile.units);
  profile.contention = read_contention(root.at("contention"), profile.units);
  return profile;
}

MachineProfile read_profile(const std::string& path, const std::vector<std::string>& overrides) {
  MachineProfile profile = profile_of(CheckedYaml::load(path));
  for (const std::string& override : overrides) profile = with_override(profile, override);
  return profile;
}

}  // namespace tandem
