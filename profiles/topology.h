// What units this machine has, through hwloc, within the process's CPU affinity and cgroup limit.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"
#include "profiles/machine_profile.h"

namespace tandem {

inline constexpr const char* kToolVersion = "0.1.0";

Machine detect_machine();
/// One unit per (NUMA node, core kind), named cpu0, cpu1, ...; one logical CPU per physical core.
/// One per GPU, gpu0, gpu1, ..., each with a core for its driver, which the CPU units then lack.
std::vector<Unit> default_units(const Machine& machine);
/// Why there is no such CUDA device, in words: what opening it says.
std::string why_no_cuda_device(int index);
/// `core` drives the GPU.
Unit cuda_unit(const std::string& name, int index, int core, const CudaDeviceInfo& device);
/// `cpu0=0;cpu1=1,isa:avx2;gpu0=2,cuda:0`: name=cores (`0-3,8`), then options. Error naming the
/// piece that is wrong. A core may be given to several units (then threads yield): the caller
/// warns.
std::vector<Unit> parse_units(const std::string& text, const Machine& machine);

}  // namespace tandem
