#include "profiles/hwloc_topology.h"

#include <hwloc.h>

#include <algorithm>

#include "kernels/error.h"

namespace tandem {
namespace {

struct FreeBitmap {
  void operator()(hwloc_bitmap_t bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

Bitmap bitmap_of(const std::vector<int>& cpus) {
  Bitmap bitmap(hwloc_bitmap_alloc());
  for (const int cpu : cpus) hwloc_bitmap_set(bitmap.get(), static_cast<unsigned>(cpu));
  return bitmap;
}

}  // namespace

struct HwlocTopology::State {
  hwloc_topology_t topology = nullptr;

  int count(hwloc_obj_type_t type) const { return hwloc_get_nbobjs_by_type(topology, type); }
  hwloc_obj_t object(hwloc_obj_type_t type, int index) const {
    return hwloc_get_obj_by_type(topology, type, static_cast<unsigned>(index));
  }
};

HwlocTopology::HwlocTopology() : state_(std::make_unique<State>()) {
  if (hwloc_topology_init(&state_->topology) != 0)
    throw Error("topology: hwloc cannot be initialised");
  if (hwloc_topology_load(state_->topology) != 0) {
    hwloc_topology_destroy(state_->topology);
    throw Error("topology: hwloc cannot read this machine's topology");
  }
}

HwlocTopology::~HwlocTopology() { hwloc_topology_destroy(state_->topology); }

std::vector<int> HwlocTopology::allowed_cpus() const {
  const Bitmap set(hwloc_bitmap_alloc());
  // On Linux this is sched_getaffinity with a mask that is as large as the kernel's.
  if (hwloc_get_cpubind(state_->topology, set.get(), HWLOC_CPUBIND_THREAD) != 0)
    throw Error("topology: the affinity mask of this process cannot be read");
  hwloc_bitmap_and(set.get(), set.get(), hwloc_topology_get_allowed_cpuset(state_->topology));
  std::vector<int> cpus;
  for (int cpu = hwloc_bitmap_first(set.get()); cpu >= 0; cpu = hwloc_bitmap_next(set.get(), cpu))
    cpus.push_back(cpu);
  return cpus;
}

std::vector<PhysicalCore> HwlocTopology::physical_cores(const std::vector<int>& cpus) const {
  const Bitmap wanted = bitmap_of(cpus);
  const Bitmap common(hwloc_bitmap_alloc());
  std::vector<PhysicalCore> cores;
  for (int i = 0; i < state_->count(HWLOC_OBJ_CORE); ++i) {
    hwloc_bitmap_and(common.get(), wanted.get(), state_->object(HWLOC_OBJ_CORE, i)->cpuset);
    const int cpu = hwloc_bitmap_first(common.get());
    if (cpu < 0) continue;
    hwloc_bitmap_only(common.get(), static_cast<unsigned>(cpu));
    const int kind = hwloc_cpukinds_get_by_cpuset(state_->topology, common.get(), 0);
    cores.push_back({cpu, numa_node_of(cpu), std::max(kind, 0)});
  }
  std::sort(cores.begin(), cores.end(),
            [](const PhysicalCore& a, const PhysicalCore& b) { return a.cpu < b.cpu; });
  return cores;
}

int HwlocTopology::numa_node_of(int cpu) const {
  for (int i = 0; i < state_->count(HWLOC_OBJ_NUMANODE); ++i) {
    const hwloc_obj_t node = state_->object(HWLOC_OBJ_NUMANODE, i);
    if (hwloc_bitmap_isset(node->cpuset, static_cast<unsigned>(cpu)))
      return static_cast<int>(node->os_index);
  }
  return 0;
}

std::vector<CacheLevel> HwlocTopology::caches(const std::vector<int>& cpus) const {
  std::vector<CacheLevel> levels;
  if (cpus.empty()) return levels;
  const Bitmap wanted = bitmap_of(cpus);
  const Bitmap common(hwloc_bitmap_alloc());
  hwloc_obj_t object =
      hwloc_get_pu_obj_by_os_index(state_->topology, static_cast<unsigned>(cpus.front()));
  for (; object != nullptr; object = object->parent) {
    if (!hwloc_obj_type_is_dcache(object->type)) continue;
    hwloc_bitmap_and(common.get(), wanted.get(), object->cpuset);
    levels.push_back({static_cast<int>(object->attr->cache.depth),
                      static_cast<int64_t>(object->attr->cache.size),
                      hwloc_bitmap_weight(common.get())});
  }
  return levels;
}

std::string HwlocTopology::cpu_info(const std::string& key) const {
  const hwloc_obj_t package = state_->object(HWLOC_OBJ_PACKAGE, 0);
  const char* value =
      package == nullptr ? nullptr : hwloc_obj_get_info_by_name(package, key.c_str());
  if (value == nullptr)
    value = hwloc_obj_get_info_by_name(hwloc_get_root_obj(state_->topology), key.c_str());
  return value == nullptr ? "" : value;
}

}  // namespace tandem
