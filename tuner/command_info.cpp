// `tandem info`: what this build and this machine have to offer. Nothing is measured.

#include <fmt/format.h>

#include <fstream>
#include <memory>
#include <span>

#include "kernels/device.h"
#include "kernels/kernel_set.h"
#include "profiles/topology.h"
#include "tuner/cli.h"
#include "tuner/commands.h"

namespace tandem {
namespace {

struct Info {
  Machine machine;
  std::vector<Unit> units;
  std::vector<std::string> compiled_isas, runnable_isas;
  std::string chosen_isa;
  std::vector<CudaDeviceInfo> cuda_devices;
  bool cuda_matrix_library = false;
  std::string huge_pages;
};

std::vector<std::string> names(std::span<const KernelSet* const> sets) {
  std::vector<std::string> result;
  for (const KernelSet* set : sets) result.emplace_back(set->name);
  return result;
}

/// The kernel writes all states and puts the one in force in brackets: `always [madvise] never`.
std::string read_huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  std::getline(file, line);
  const size_t open = line.find('['), close = line.find(']');
  return open < close && close != std::string::npos ? line.substr(open + 1, close - open - 1)
                                                    : "unknown";
}

Info gather() {
  Info info;
  info.machine = detect_machine();
  info.units = default_units(info.machine);
  info.compiled_isas = names(compiled_kernel_sets());
  info.runnable_isas = names(kernel_sets());
  info.chosen_isa = kernel_set("").name;
  info.cuda_devices = list_cuda_devices();
  info.cuda_matrix_library = !info.cuda_devices.empty() && has_cuda_matrix_library();
  info.huge_pages = read_huge_pages();
  return info;
}

std::vector<std::string> dtype_names() {
  std::vector<std::string> result;
  for (const DTypeInfo& dtype : kDTypes) result.emplace_back(dtype.name);
  return result;
}

Json machine_json(const Machine& machine) {
  Json caches = Json::array();
  for (const CacheLevel& cache : machine.caches)
    caches.push_back(
        {{"level", cache.level}, {"bytes", cache.bytes}, {"sharing_cores", cache.sharing_cores}});
  return {{"name", machine.name},     {"cpu", machine.cpu},
          {"cores", machine.cores},   {"caches", std::move(caches)},
          {"kernel", machine.kernel}, {"memory_bytes", machine.memory_bytes}};
}

Json info_json(const Info& info) {
  Json units = Json::array();
  for (const Unit& unit : info.units)
    units.push_back({{"name", unit.name},
                     {"kind", unit.kind == UnitKind::kCpu ? "cpu" : "cuda"},
                     {"cores", unit.cores},
                     {"isa", unit.isa},
                     {"memory", unit.memory}});
  Json cuda = Json::array();
  for (const CudaDeviceInfo& device : info.cuda_devices)
    cuda.push_back({{"name", device.name},
                    {"capability", device.capability},
                    {"memory_bytes", device.memory_bytes},
                    {"unified", device.unified},
                    {"stream_memory_ops", device.stream_memory_ops}});
  return {{"version", kToolVersion},
          {"machine", machine_json(info.machine)},
          {"huge_pages", info.huge_pages},
          {"units", std::move(units)},
          {"kernel_sets",
           {{"compiled", info.compiled_isas},
            {"runnable", info.runnable_isas},
            {"chosen", info.chosen_isa}}},
          {"cuda_devices", std::move(cuda)},
          {"cuda_matrix_library", info.cuda_matrix_library},
          {"dtypes", dtype_names()},
          {"shapes", shape_names()}};
}

std::string cache_text(const std::vector<CacheLevel>& caches) {
  std::string text;
  for (const CacheLevel& cache : caches)
    text += fmt::format("{}L{} {} / {} core{}", text.empty() ? "" : ", ", cache.level,
                        format_bytes(static_cast<double>(cache.bytes)), cache.sharing_cores,
                        cache.sharing_cores == 1 ? "" : "s");
  return text.empty() ? "unknown" : text;
}

std::string cuda_text(const std::vector<CudaDeviceInfo>& devices) {
  std::string text;
  for (const CudaDeviceInfo& device : devices)
    text += fmt::format(
        "{}{} ({}, compute {}, {}, {})", text.empty() ? "" : ", ", device.name,
        format_bytes(static_cast<double>(device.memory_bytes)), device.capability,
        device.unified ? "shares the host's memory" : "exchanges through pinned host memory",
        device.stream_memory_ops ? "the stream waits for flags" : "a kernel waits for flags");
  return text.empty() ? "none: " + why_no_cuda_device(0) : text;
}

void print_info(const Info& info) {
  const Machine& machine = info.machine;
  fmt::print("tandem       {}\n", kToolVersion);
  fmt::print("machine      {}\n", machine.name);
  fmt::print("cpu          {}, kernel {}\n", machine.cpu, machine.kernel);
  fmt::print("cores        {} (logical CPUs this process may use)\n", format_cores(machine.cores));
  fmt::print("caches       {}\n", cache_text(machine.caches));
  fmt::print("memory       {}, huge pages: {}\n",
             format_bytes(static_cast<double>(machine.memory_bytes)), info.huge_pages);
  fmt::print("kernel sets  compiled {}; run here {}; chosen {}\n",
             fmt::join(info.compiled_isas, ", "), fmt::join(info.runnable_isas, ", "),
             info.chosen_isa);
  fmt::print("cuda         {}\n", cuda_text(info.cuda_devices));
  if (!info.cuda_devices.empty())
    fmt::print("cuBLASLt     {}\n",
               info.cuda_matrix_library ? "found" : "not found: prompts go 16 tokens at a time");
  fmt::print("dtypes       {}\n", fmt::join(dtype_names(), ", "));
  fmt::print("shapes       {}\n\n", fmt::join(shape_names(), ", "));
  Table table({"unit", "cores", "isa", "memory"});
  for (const Unit& unit : info.units)
    table.add({unit.name, format_cores(unit.cores), unit.isa, unit.memory});
  fmt::print("{}", table.text());
}

}  // namespace

void add_info_command(CLI::App& app, int& /*exit_code*/) {
  CLI::App* command = app.add_subcommand("info", "what this build and this machine offer");
  command->footer("Example: TANDEM_ISA=avx2 tandem info --json");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print it as JSON (bytes)");
  command->callback([json] {
    const Info info = gather();
    if (*json)
      print_json(info_json(info));
    else
      print_info(info);
  });
}

}  // namespace tandem
