// What hwloc knows about the processors this process may use. The only place that includes hwloc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "profiles/machine_profile.h"

namespace tandem {

/// A physical core: where it is and the first of its logical CPUs that may be used.
struct PhysicalCore {
  int cpu = 0;        ///< logical CPU number
  int numa_node = 0;  ///< number of the memory next to it
  int kind = 0;       ///< core kinds of a hybrid processor, the most efficient (slowest) is 0
};

class HwlocTopology {
 public:
  HwlocTopology();
  ~HwlocTopology();
  HwlocTopology(const HwlocTopology&) = delete;
  HwlocTopology& operator=(const HwlocTopology&) = delete;

  /// Logical CPUs in this thread's affinity mask, ascending.
  std::vector<int> allowed_cpus() const;
  /// One entry per physical core that has a CPU among `cpus`, by ascending CPU.
  std::vector<PhysicalCore> physical_cores(const std::vector<int>& cpus) const;
  /// Number of the NUMA node next to a logical CPU.
  int numa_node_of(int cpu) const;
  /// Data caches seen by the first of `cpus`; sharing_cores counts CPUs among `cpus`.
  std::vector<CacheLevel> caches(const std::vector<int>& cpus) const;
  /// As the CPU says it ("CPUModel", "CPUVendor", "CPUFamilyNumber", ...), "" where it does not.
  std::string cpu_info(const std::string& key) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem
