#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/kernel_set.h"
#include "profiles/hwloc_topology.h"
#include "profiles/topology.h"

namespace tandem {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    pieces.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return pieces;
}

[[noreturn]] void fail(std::string_view piece, const std::string& message) {
  throw Error(fmt::format("--units: '{}': {}", piece, message));
}

int parse_core(std::string_view text, std::string_view piece, const Machine& machine) {
  int core = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), core);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    fail(piece, "expected logical CPU numbers as in 0-3,8");
  if (std::find(machine.cores.begin(), machine.cores.end(), core) == machine.cores.end())
    fail(piece, fmt::format("CPU {} is not one that this process may use: {}", core,
                            fmt::join(machine.cores, ",")));
  return core;
}

void add_cores(Unit& unit, std::string_view piece, const Machine& machine) {
  const size_t dash = piece.find('-');
  const int first = parse_core(piece.substr(0, dash), piece, machine);
  const int last =
      dash == std::string_view::npos ? first : parse_core(piece.substr(dash + 1), piece, machine);
  if (last < first) fail(piece, "a range of CPUs ascends");
  for (int core = first; core <= last; ++core) {
    parse_core(std::to_string(core), piece, machine);
    if (std::find(unit.cores.begin(), unit.cores.end(), core) != unit.cores.end())
      fail(piece, fmt::format("CPU {} is given twice to unit {}", core, unit.name));
    unit.cores.push_back(core);
  }
}

void set_isa(Unit& unit, std::string_view isa, std::string_view piece, const Machine& machine) {
  const auto sets = kernel_sets();
  if (std::none_of(sets.begin(), sets.end(),
                   [&](const KernelSet* set) { return set->name == isa; }))
    fail(piece, fmt::format("no kernel set '{}' runs here, expected one of {}", isa, machine.isas));
  unit.isa = isa;
}

/// "cuda:0" makes a unit the driver's first GPU.
void make_cuda(Unit& unit, std::string_view text, std::string_view piece) {
  const std::vector<CudaDeviceInfo> devices = list_cuda_devices();
  size_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    fail(piece, "expected a CUDA device's number as in cuda:0");
  if (index >= devices.size())
    fail(piece, fmt::format("there is no CUDA device {} here: {}", index,
                            why_no_cuda_device(static_cast<int>(index))));
  const int core = unit.cores.empty() ? -1 : unit.cores.front();
  unit = cuda_unit(unit.name, static_cast<int>(index), core, devices[index]);
}

/// "cpu1=1,3-5,isa:avx2" or "gpu0=7,cuda:0": the core that drives it, then the device.
Unit parse_unit(std::string_view text, const Machine& machine) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) fail(text, "expected NAME=CORES as in cpu0=0-3,isa:avx2");
  Unit unit;
  unit.name = text.substr(0, equals);
  // Plans and overrides use names as keys: `cpu0-cpu1` is a link, `cpu0+cpu1` a set of units.
  const bool named =
      !unit.name.empty() && std::all_of(unit.name.begin(), unit.name.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
      });
  if (!named) fail(text, "a unit's name is letters, digits and _");
  unit.isa = kernel_set("").name;
  for (const std::string_view piece : split(text.substr(equals + 1), ',')) {
    if (piece.starts_with("isa:"))
      set_isa(unit, piece.substr(4), piece, machine);
    else if (piece.starts_with("cuda:"))
      make_cuda(unit, piece.substr(5), piece);
    else if (piece.find(':') != std::string_view::npos)
      fail(piece, "unknown option, expected isa:NAME or cuda:NUMBER");
    else
      add_cores(unit, piece, machine);
  }
  if (unit.cores.empty() || unit.cores.front() < 0)
    fail(text, "a unit needs at least one CPU, a GPU the one that drives it, before cuda:NUMBER");
  return unit;
}

}  // namespace

std::vector<Unit> parse_units(const std::string& text, const Machine& machine) {
  const HwlocTopology topology;
  std::vector<Unit> units;
  for (const std::string_view piece : split(text, ';')) {
    Unit unit = parse_unit(piece, machine);
    if (unit.memory.empty())
      unit.memory = fmt::format("dram{}", topology.numa_node_of(unit.cores.front()));
    if (std::any_of(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit.name; }))
      fail(piece, "there is a unit of this name already");
    units.push_back(std::move(unit));
  }
  return units;
}

}  // namespace tandem
