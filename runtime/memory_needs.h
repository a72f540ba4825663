// What a plan needs of every unit's memory, before anything is allocated. Counted with the
// functions that the runtime allocates by, so that it is what Executor::memory() then says.
#pragma once

#include <span>
#include <vector>

#include "kernels/device.h"
#include "runtime/executor.h"
#include "runtime/resident_columns.h"

namespace tandem {

/// What Executor(model, plan, units, options).memory() will be for a model of this spec; `units`
/// are those of plan.units in its order. Not counted: norms and biases (below 0.1 % of the
/// weights), and what is rounded up to whole pages.
std::vector<MemoryUse> memory_needs(const ModelSpec& spec, const Plan& plan,
                                    const std::vector<Unit>& units, const ExecutorOptions& options);

/// Adds the buffers of a step, `bytes` of the host's memory, to the first unit, and a copy of them
/// to every unit whose bit of `cuda` is set.
void add_step_buffers(int64_t bytes, uint64_t cuda, std::vector<MemoryUse>& uses);

/// Adds the table of embedding rows to the unit that reads them: a CUDA unit's driver reads them
/// where the host has them.
void add_table(int64_t bytes, uint64_t cuda, int unit, std::vector<MemoryUse>& uses);

/// What an executor must be made for to run the planned steps.
ExecutorOptions options_for(const Workload& workload);

/// The plan that an executor begins with, and the others that it is made for.
std::vector<Plan> all_plans(const Plan& first, const ExecutorOptions& options);

/// The largest step that each device will be asked for.
DeviceLimits device_limits(const ModelSpec& spec, const ExecutorOptions& options);

/// Bytes of the table of embedding rows as the file stores it.
int64_t table_bytes(const ModelSpec& spec);
/// The same, or none where all of these plans read rows from the packed output head. They lie in
/// the host's memory whatever the unit.
int64_t embedding_bytes(const ModelSpec& spec, std::span<const Plan> plans,
                        const std::vector<Unit>& units);

}  // namespace tandem
