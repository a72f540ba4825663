#include "profiles/topology.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/kernel_set.h"
#include "profiles/cgroup.h"
#include "profiles/hwloc_topology.h"

namespace tandem {
namespace {

/// "Intel(R) Xeon(R) Gold 6430" becomes "intel-xeon-gold-6430".
std::string slug(const std::string& text) {
  std::string result;
  bool in_brackets = false;
  for (const char c : text) {
    in_brackets = c == '(' || (in_brackets && c != ')');
    if (std::isalnum(static_cast<unsigned char>(c)) && !in_brackets)
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (c == ' ' && !result.empty() && result.back() != '-')
      result += '-';
  }
  while (!result.empty() && result.back() == '-') result.pop_back();
  return result.empty() ? "cpu" : result;
}

/// A short name for a processor. Cloud providers hide the model name of AMD ("AMD EPYC"), so its
/// generation is told from family and model (AMD, revision guides of families 17h, 19h, 1Ah).
std::string short_cpu_name(const HwlocTopology& topology, const std::string& cpu) {
  const int family = std::atoi(topology.cpu_info("CPUFamilyNumber").c_str());
  const int model = std::atoi(topology.cpu_info("CPUModelNumber").c_str());
  if (topology.cpu_info("CPUVendor") != "AuthenticAMD") return slug(cpu);
  if (family == 0x17) return model >= 0x30 ? "zen2" : "zen1";
  if (family == 0x19) {
    const bool zen4 =
        (model >= 0x10 && model < 0x20) || (model >= 0x60 && model < 0x80) || model >= 0xa0;
    return zen4 ? "zen4" : "zen3";
  }
  return family == 0x1a ? "zen5" : slug(cpu);
}

/// A group that may use less CPU time than it has CPUs would stall a spinning team, so only as many
/// CPUs as it can keep busy are used.
std::vector<int> usable_cpus(const HwlocTopology& topology) {
  std::vector<int> cpus = topology.allowed_cpus();
  if (const auto limit = cgroup_cpu_limit()) {
    const auto busy = static_cast<size_t>(std::max(1.0, std::floor(*limit)));
    cpus.resize(std::min(cpus.size(), busy));
  }
  return cpus;
}

std::string runnable_isas() {
  std::string names;
  for (const KernelSet* set : kernel_sets())
    names += (names.empty() ? "" : ",") + std::string(set->name);
  return names;
}

std::string kernel_release() {
  utsname system{};
  return uname(&system) == 0 ? system.release : "";
}

/// Of the whole machine. hwloc adds up the nodes' counts, which move where the memory of a virtual
/// machine is plugged in as it is used.
int64_t memory_present() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

/// A GPU's driver spins on a core of its own: the last one of the last unit that has two.
int take_driver_core(std::vector<Unit>& units) {
  for (size_t i = units.size(); i-- > 0;) {
    Unit& unit = units[i];
    if (unit.kind != UnitKind::kCpu || unit.cores.size() < 2) continue;
    const int core = unit.cores.back();
    unit.cores.pop_back();
    return core;
  }
  return units.front().cores.front();
}

}  // namespace

std::string why_no_cuda_device(int index) {
  try {
    open_cuda_device({.index = index});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

namespace {

/// What the driver's context, the kernels and cuBLASLt leave of a device's memory. They take some
/// hundred MiB, by what others report; never more than an eighth is held back.
int64_t usable_bytes(const CudaDeviceInfo& device) {
  constexpr int64_t kDriversOwn = int64_t{768} << 20;
  return device.memory_bytes - std::min(kDriversOwn, device.memory_bytes / 8);
}

}  // namespace

Unit cuda_unit(const std::string& name, int index, int core, const CudaDeviceInfo& device) {
  std::string capability = device.capability;
  std::erase(capability, '.');
  return {.name = name,
          .kind = UnitKind::kCuda,
          .cores = {core},
          .isa = "sm_" + capability,
          .memory = device.unified ? "dram0" : fmt::format("gpu{}", index),
          .index = index,
          .memory_bytes = device.unified ? 0 : usable_bytes(device)};
}

Machine detect_machine() {
  const HwlocTopology topology;
  Machine machine;
  machine.cpu = topology.cpu_info("CPUModel");
  machine.cores = usable_cpus(topology);
  machine.name = fmt::format("{}-{}c", short_cpu_name(topology, machine.cpu), machine.cores.size());
  machine.caches = topology.caches(machine.cores);
  machine.memory_bytes = memory_present();
  if (const auto limit = cgroup_memory_limit())
    machine.memory_bytes = std::min(machine.memory_bytes, *limit);
  machine.isas = runnable_isas();
  machine.kernel = kernel_release();
  return machine;
}

std::vector<Unit> default_units(const Machine& machine) {
  const HwlocTopology topology;
  // Nodes ascend; within a node the fastest kind comes first.
  std::map<std::pair<int, int>, std::vector<int>> groups;
  for (const PhysicalCore& core : topology.physical_cores(machine.cores))
    groups[{core.numa_node, -core.kind}].push_back(core.cpu);
  std::vector<Unit> units;
  for (const auto& [place, cores] : groups)
    units.push_back({.name = fmt::format("cpu{}", units.size()),
                     .kind = UnitKind::kCpu,
                     .cores = cores,
                     .isa = std::string(kernel_set("").name),
                     .memory = fmt::format("dram{}", place.first)});
  const std::vector<CudaDeviceInfo> devices = list_cuda_devices();
  for (size_t i = 0; i < devices.size(); ++i)
    units.push_back(cuda_unit(fmt::format("gpu{}", i), static_cast<int>(i), take_driver_core(units),
                              devices[i]));
  return units;
}

}  // namespace tandem
