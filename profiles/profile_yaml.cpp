#include "profiles/profile_yaml.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/file.h"

namespace tandem {
namespace {

/// A text in double quotes, so that no value is mistaken for YAML syntax.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + '"';
}

// Numbers are written with as many digits as reading them back exactly takes.

std::string figure_text(const Figure& figure) {
  return fmt::format("{{median: {}, spread: {}}}", figure.median, figure.spread);
}

std::string curve_text(const Curve& curve) {
  std::string text = "[";
  for (const CurvePoint& point : curve.points)
    text += fmt::format("{}[{}, {}, {}]", text.size() == 1 ? "" : ", ", point.x, point.y.median,
                        point.y.spread);
  return text + "]";
}

/// A unit without its figures, as the first lines of its entry.
std::string unit_text(const Unit& unit) {
  std::string device;
  if (unit.kind == UnitKind::kCuda) device = fmt::format("    device: {}\n", unit.index);
  if (unit.memory_bytes > 0) device += fmt::format("    memory_bytes: {}\n", unit.memory_bytes);
  return fmt::format("  - name: {}\n    kind: {}\n{}    cores: [{}]\n    isa: {}\n    memory: {}\n",
                     quoted(unit.name), unit.kind == UnitKind::kCpu ? "cpu" : "cuda", device,
                     fmt::join(unit.cores, ", "), quoted(unit.isa), quoted(unit.memory));
}

std::string machine_text(const Machine& machine) {
  std::string text =
      fmt::format("machine:\n  name: {}\n  cpu: {}\n  cores: [{}]\n  caches:\n",
                  quoted(machine.name), quoted(machine.cpu), fmt::join(machine.cores, ", "));
  if (machine.caches.empty()) text.insert(text.size() - 1, " []");
  for (const CacheLevel& cache : machine.caches)
    text += fmt::format("    - {{level: {}, bytes: {}, sharing_cores: {}}}\n", cache.level,
                        cache.bytes, cache.sharing_cores);
  return text + fmt::format("  memory_bytes: {}\n  isas: {}\n  kernel: {}\n", machine.memory_bytes,
                            quoted(machine.isas), quoted(machine.kernel));
}

std::string linear_text(const std::vector<LinearCurve>& curves) {
  std::string text = curves.empty() ? "    linear: []\n" : "    linear:\n";
  for (const LinearCurve& curve : curves)
    text += fmt::format(
        "      - dtype: {}\n        tokens: {}\n        from_dram: {}\n"
        "        from_cache: {}\n",
        name(curve.dtype), curve.tokens, curve_text(curve.from_dram), curve_text(curve.from_cache));
  return text;
}

/// An item of a list.
std::string curve_of_dtype_text(DType dtype, const char* key, const Curve& curve) {
  return fmt::format("      - dtype: {}\n        {}: {}\n", name(dtype), key, curve_text(curve));
}

std::string row_slowdowns_text(const std::vector<RowSlowdown>& slowdowns) {
  if (slowdowns.empty()) return "";
  std::string text = "    row_slowdowns:\n";
  for (const RowSlowdown& slowdown : slowdowns)
    text += curve_of_dtype_text(slowdown.dtype, "by_k", slowdown.by_k);
  return text;
}

std::string prepare_text(const std::vector<PrepareCurve>& curves) {
  std::string text = curves.empty() ? "    prepare: []\n" : "    prepare:\n";
  for (const PrepareCurve& curve : curves)
    text += curve_of_dtype_text(curve.dtype, "seconds", curve.seconds);
  return text;
}

std::string attention_text(const std::vector<AttentionCurve>& curves) {
  std::string text = curves.empty() ? "    attention: []\n" : "    attention:\n";
  for (const AttentionCurve& curve : curves)
    text += fmt::format(
        "      - {{kv_dtype: {}, head_dim: {}, group: {}, tokens: {}, seconds: {}}}\n",
        name(curve.kv_dtype), curve.head_dim, curve.group, curve.tokens, curve_text(curve.seconds));
  return text;
}

std::string unit_text(const UnitProfile& profile) {
  std::string text = unit_text(profile.unit);
  text += fmt::format("    dram_read_per_s: {}\n    cache_read_per_s: {}\n    barrier_s: {}\n",
                      figure_text(profile.dram_read_per_s), figure_text(profile.cache_read_per_s),
                      figure_text(profile.barrier_s));
  if (profile.cold_start_s.median > 0)
    text += fmt::format("    cold_start_s: {}\n", figure_text(profile.cold_start_s));
  if (profile.stream_per_s.median > 0)
    text += fmt::format("    stream_per_s: {}\n", figure_text(profile.stream_per_s));
  if (profile.stream_slowdown.median > 0)
    text += fmt::format("    stream_slowdown: {}\n", figure_text(profile.stream_slowdown));
  if (profile.plain_launch_s.median > 0)
    text += fmt::format("    plain_launch_s: {}\n", figure_text(profile.plain_launch_s));
  if (!profile.publish.empty())
    text += fmt::format("    publish: {}\n", curve_text(profile.publish));
  text += linear_text(profile.linear) + row_slowdowns_text(profile.row_slowdowns) +
          prepare_text(profile.prepare) + attention_text(profile.attention);
  return text + fmt::format("    embed: {}\n    merge: {}\n    commit: {}\n    argmax: {}\n",
                            curve_text(profile.embed), curve_text(profile.merge),
                            curve_text(profile.commit), curve_text(profile.argmax));
}

std::string links_text(const std::vector<Link>& links) {
  std::string text = links.empty() ? "links: []\n" : "links:\n";
  for (const Link& link : links) {
    std::string copied = link.copy.empty() ? "" : ", copy: " + curve_text(link.copy);
    if (link.direct) copied += ", direct: true";
    text += fmt::format("  - {{from: {}, to: {}, latency_s: {}{}}}\n", quoted(link.from),
                        quoted(link.to), figure_text(link.latency_s), copied);
  }
  return text;
}

std::string contention_text(const std::vector<Contention>& sets) {
  std::string text = sets.empty() ? "contention: []\n" : "contention:\n";
  for (const Contention& set : sets) {
    std::string names;
    for (const std::string& unit : set.units) names += (names.empty() ? "" : ", ") + quoted(unit);
    std::string streams;
    for (const StreamShare& stream : set.streams)
      streams += fmt::format("{}{{dtype: {}, share: {}}}", streams.empty() ? "" : ", ",
                             name(stream.dtype), figure_text(stream.share));
    text += fmt::format(
        "  - {{units: [{}], total_per_s: {}, streams: [{}], compute_slowdown: {}}}\n", names,
        figure_text(set.total_per_s), streams, figure_text(set.compute_slowdown));
  }
  return text;
}

/// FNV-1a (Fowler, Noll, Vo), 64 bit.
uint64_t hash(const std::string& text) {
  uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
}

constexpr const char* kHeader =
    "# What tandem measured on this machine. A curve is a list of points [x, y, spread]; y is in\n"
    "# seconds, spread is the interquartile range over the median. x is: linear, bytes of "
    "weights;\n"
    "# prepare, tokens * k; attention, kv heads * mean positions per token; merge, floats of all\n"
    "# states; embed and argmax, values; commit, bytes of keys and values; publish and a link's "
    "copy,\n# bytes of a result. Of by_k, x is the k of rows and y a time over that of rows of "
    "2048.\n";

}  // namespace

std::string profile_text(const MachineProfile& profile) {
  const Conditions& conditions = profile.conditions;
  std::string text = kHeader;
  text +=
      fmt::format("version: {}\nfingerprint: {}\ndate: {}\ntool_version: {}\n", profile.version,
                  quoted(profile.fingerprint), quoted(profile.date), quoted(profile.tool_version));
  text += machine_text(profile.machine);
  text += fmt::format(
      "conditions: {{state: {}, handoff_s: {}, dram_read_per_s: {}, core_read_per_s: {}, "
      "compute_per_s: [{}], measured_outside: {}}}\nunits:\n",
      quoted(conditions.state), conditions.probe.handoff_s, conditions.probe.dram_read_per_s,
      conditions.probe.core_read_per_s, fmt::join(conditions.probe.compute_per_s, ", "),
      conditions.measured_outside);
  for (const UnitProfile& unit : profile.units) text += unit_text(unit);
  return text + links_text(profile.links) + contention_text(profile.contention);
}

void write_profile(const MachineProfile& profile, const std::string& path) {
  write_file_atomically(path, profile_text(profile));
}

std::string profile_fingerprint(const MachineProfile& profile) {
  std::string text = profile.tool_version + "\n" + machine_text(profile.machine);
  for (const UnitProfile& unit : profile.units) text += unit_text(unit.unit);
  return fmt::format("{:016x}", hash(text));
}

}  // namespace tandem
