// Limits that a control group (a container) sets on this process; no topology.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tandem {

/// Where the kernel shows control groups; tests point it elsewhere.
struct CgroupFiles {
  std::string membership = "/proc/self/cgroup";
  std::string mount = "/sys/fs/cgroup";
};

/// The smallest memory limit in bytes of the process's group and the groups above it, v1 or v2.
std::optional<int64_t> cgroup_memory_limit(const CgroupFiles& files = {});
/// The smallest CPU time limit, in cores (1.5 = three halves of a core), v1 or v2.
std::optional<double> cgroup_cpu_limit(const CgroupFiles& files = {});

}  // namespace tandem
