// `tandem profile`: measures this machine and writes what it found as machine.yaml.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "profiles/probe.h"
#include "profiles/profile_yaml.h"
#include "profiles/topology.h"
#include "tuner/cli.h"
#include "tuner/commands.h"

namespace tandem {
namespace {

struct ProfileArgs {
  bool quick = false;
  double seconds = 0;
  std::string units;
  std::string dtypes;
  std::string output = "machine.yaml";
  OutputArgs out;
};

/// Speed of a dtype's linear kernels on the largest matrix measured: decode (1 token) and the
/// widest step.
struct LinearSpeed {
  DType dtype = DType::kF32;
  double decode_bytes_per_s = 0;
  int64_t prefill_tokens = 0;
  double prefill_flops_per_s = 0;
};

LinearSpeed linear_speed(const UnitProfile& unit, DType dtype) {
  LinearSpeed speed{.dtype = dtype};
  const double elements_per_byte =
      static_cast<double>(info(dtype).block_size) / static_cast<double>(info(dtype).block_bytes);
  for (const LinearCurve& curve : unit.linear) {
    if (curve.dtype != dtype || curve.from_dram.empty()) continue;
    const CurvePoint& largest = curve.from_dram.points.back();
    const double bytes_per_s = largest.x / largest.y.median;
    if (curve.tokens == 1) speed.decode_bytes_per_s = bytes_per_s;
    if (curve.tokens < speed.prefill_tokens) continue;
    speed.prefill_tokens = curve.tokens;
    // Two flop for each weight and token.
    speed.prefill_flops_per_s =
        2 * bytes_per_s * elements_per_byte * static_cast<double>(curve.tokens);
  }
  return speed;
}

/// Of every dtype that was measured on the unit.
std::vector<LinearSpeed> linear_speeds(const UnitProfile& unit) {
  std::vector<LinearSpeed> speeds;
  for (const DTypeInfo& dtype : kDTypes)
    if (const LinearSpeed speed = linear_speed(unit, dtype.dtype); speed.prefill_tokens > 0)
      speeds.push_back(speed);
  return speeds;
}

Json curve_json(const Curve& curve, const char* x, const char* y) {
  Json points = Json::array();
  for (const CurvePoint& point : curve.points)
    points.push_back({{x, point.x}, {y, to_json(point.y)}});
  return points;
}

Json unit_json(const UnitProfile& profile) {
  Json slowdowns = Json::object();
  for (const RowSlowdown& slowdown : profile.row_slowdowns)
    slowdowns[std::string(name(slowdown.dtype))] = curve_json(slowdown.by_k, "k", "slowdown");
  Json linear = Json::array();
  for (const LinearSpeed& speed : linear_speeds(profile))
    linear.push_back({{"dtype", name(speed.dtype)},
                      {"decode_bytes_per_s", speed.decode_bytes_per_s},
                      {"prefill_tokens", speed.prefill_tokens},
                      {"prefill_flops_per_s", speed.prefill_flops_per_s}});
  return {{"name", profile.unit.name},
          {"cores", profile.unit.cores},
          {"isa", profile.unit.isa},
          {"memory", profile.unit.memory},
          {"dram_read_per_s", to_json(profile.dram_read_per_s)},
          {"cache_read_per_s", to_json(profile.cache_read_per_s)},
          {"barrier_s", to_json(profile.barrier_s)},
          {"cold_start_s", to_json(profile.cold_start_s)},
          {"plain_launch_s", to_json(profile.plain_launch_s)},
          {"stream_per_s", to_json(profile.stream_per_s)},
          {"stream_slowdown", to_json(profile.stream_slowdown)},
          {"publish", curve_json(profile.publish, "bytes", "s")},
          {"linear", std::move(linear)},
          {"row_slowdowns", std::move(slowdowns)}};
}

Json profile_json(const MachineProfile& profile, const std::string& path) {
  Json units = Json::array(), links = Json::array(), contention = Json::array();
  for (const UnitProfile& unit : profile.units) units.push_back(unit_json(unit));
  for (const Link& link : profile.links)
    links.push_back({{"from", link.from},
                     {"to", link.to},
                     {"latency_s", to_json(link.latency_s)},
                     {"copy", curve_json(link.copy, "bytes", "s")},
                     {"direct", link.direct}});
  for (const Contention& c : profile.contention) {
    Json streams = Json::object();
    for (const StreamShare& stream : c.streams)
      streams[std::string(name(stream.dtype))] = to_json(stream.share);
    contention.push_back({{"units", c.units},
                          {"total_per_s", to_json(c.total_per_s)},
                          {"stream_shares", std::move(streams)},
                          {"compute_slowdown", to_json(c.compute_slowdown)}});
  }
  return {{"file", path},
          {"machine", profile.machine.name},
          {"fingerprint", profile.fingerprint},
          {"date", profile.date},
          {"state", profile.conditions.state},
          {"measured_outside", profile.conditions.measured_outside},
          {"units", std::move(units)},
          {"links", std::move(links)},
          {"contention", std::move(contention)}};
}

std::string with_spread(const std::string& value, double spread) {
  return fmt::format("{} +-{:.1f} %", value, 100 * spread);
}

std::string bandwidth(const Figure& figure) {
  return with_spread(format_bytes_per_s(figure.median), figure.spread);
}

void print_units(const MachineProfile& profile) {
  Table units({"unit", "cores", "isa", "memory", "DRAM read", "cache read", "fork and join"});
  Table linear({"unit", "dtype", "decode", "prefill", "at tokens"});
  for (const UnitProfile& p : profile.units) {
    units.add({p.unit.name, format_cores(p.unit.cores), p.unit.isa, p.unit.memory,
               bandwidth(p.dram_read_per_s), bandwidth(p.cache_read_per_s),
               format_seconds(p.barrier_s.median)});
    for (const LinearSpeed& speed : linear_speeds(p))
      linear.add({p.unit.name, std::string(name(speed.dtype)),
                  format_bytes_per_s(speed.decode_bytes_per_s),
                  fmt::format("{:.1f} GFLOP/s", speed.prefill_flops_per_s * 1e-9),
                  fmt::format("{}", speed.prefill_tokens)});
  }
  fmt::print("{}\nLinear kernels, weights from DRAM:\n{}", units.text(), linear.text());
}

/// What results take over a link: the smallest, where a launch or the link's latency counts, and
/// the largest, where its bandwidth does.
void add_copies(Table& table, const std::string& between, const std::string& how,
                const Curve& curve) {
  if (curve.empty()) return;
  const CurvePoint &small = curve.points.front(), &large = curve.points.back();
  table.add({between, how,
             fmt::format("{} in {}", format_bytes(small.x), format_seconds(small.y.median)),
             with_spread(format_bytes_per_s(large.x / large.y.median), large.y.spread)});
}

void print_pairs(const MachineProfile& profile) {
  Table links({"hand-off", "one way"});
  Table copies({"results", "how", "small", "large"});
  for (const UnitProfile& p : profile.units)
    add_copies(copies, p.unit.name + " -> host", "written beside its own", p.publish);
  for (const Link& link : profile.links) {
    const std::string between = link.from + " -> " + link.to;
    links.add({between, with_spread(format_seconds(link.latency_s.median), link.latency_s.spread)});
    add_copies(copies, between, link.direct ? "read from its memory" : "copied from host memory",
               link.copy);
  }
  if (!links.empty()) fmt::print("\n{}", links.text());
  if (!copies.empty()) fmt::print("\n{}", copies.text());
  Table contention(
      {"at once", "DRAM read together", "share of it that decoding reads", "compute slowdown"});
  for (const Contention& c : profile.contention) {
    std::string streams;
    for (const StreamShare& stream : c.streams)
      streams += fmt::format("{}{} {:.0f} %", streams.empty() ? "" : ", ", name(stream.dtype),
                             100 * stream.share.median);
    contention.add({fmt::format("{}", fmt::join(c.units, " + ")), bandwidth(c.total_per_s), streams,
                    fmt::format("{:.2f}x", c.compute_slowdown.median)});
  }
  if (!contention.empty()) fmt::print("\n{}", contention.text());
}

void print_profile(const MachineProfile& profile, const std::string& path) {
  const Conditions& conditions = profile.conditions;
  print_units(profile);
  print_pairs(profile);
  fmt::print("\nState: {} (hand-off {}, {}); {} figures measured in another state.\n",
             conditions.state, format_seconds(conditions.probe.handoff_s),
             format_probe(conditions.probe), conditions.measured_outside);
  fmt::print("Wrote {}\n", path);
}

void warn_of_shared_cores(const std::vector<Unit>& units) {
  std::map<int, std::string> owners;
  for (const Unit& unit : units)
    for (const int core : unit.cores)
      if (const auto [owner, is_new] = owners.emplace(core, unit.name); !is_new)
        fmt::print(stderr, "warning: core {} belongs to {} and to {}: they take turns\n", core,
                   owner->second, unit.name);
}

ProfileOptions profile_options(const ProfileArgs& args) {
  ProfileOptions options{
      .quick = args.quick, .dtypes = {}, .limit_s = args.seconds, .progress = {}};
  for (const std::string& dtype : split_list(args.dtypes))
    options.dtypes.push_back(parse_dtype_option("--dtypes", dtype));
  return options;
}

void profile(const ProfileArgs& args) {
  ProfileOptions options = profile_options(args);
  const Machine machine = detect_machine();
  const std::vector<Unit> units =
      args.units.empty() ? default_units(machine) : parse_units(args.units, machine);
  prepare_output(args.output, {});
  warn_of_shared_cores(units);
  MachineProfile measured;
  {
    Progress progress(args.out.progress());
    options.progress = [&](double fraction, const std::string& what) {
      progress.update(fraction, what);
    };
    measured = profile_machine(machine, units, options);
  }
  write_profile(measured, args.output);
  if (args.out.json)
    print_json(profile_json(measured, args.output));
  else
    print_profile(measured, args.output);
}

}  // namespace

void add_profile_command(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command = app.add_subcommand("profile", "measure this machine: write machine.yaml");
  command->footer("Example: tandem profile --quick --units 'cpu0=0;cpu1=1,isa:avx2'");
  const auto args = std::make_shared<ProfileArgs>();
  command->add_flag("--quick", args->quick, "at most 15 s instead of 90 s, with wider intervals");
  command
      ->add_option("--seconds", args->seconds,
                   "measure for so long: more samples where the machine is noisy")
      ->check(CLI::PositiveNumber);
  command->add_option("--units", args->units,
                      "units as name=cores[,isa:NAME], separated by ';' (default: one for each "
                      "NUMA node and kind of core)");
  command->add_option("--dtypes", args->dtypes,
                      "dtypes to measure, separated by ',' (default: f32,f16,bf16,q8_0,q4_0)");
  command->add_option("-o,--output", args->output, "profile to write")->capture_default_str();
  add_output_options(*command, args->out);
  command->callback([args] { profile(*args); });
}

}  // namespace tandem
