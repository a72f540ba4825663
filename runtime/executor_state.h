// What an Executor is made of: devices, what lies in their memories, and the threads that drive
// them. For executor.cpp, which makes it, and drivers.cpp, which runs steps on it.
#pragma once

#include <sched.h>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "kernels/flag.h"
#include "runtime/executor.h"
#include "runtime/placement.h"
#include "runtime/program.h"
#include "runtime/task_runner.h"

namespace tandem {

struct Executor::State {
  const Model& model;
  const std::vector<Plan> plans;  ///< whose weights are placed
  Plan plan;                      ///< one of them
  ExecutorOptions options;
  std::vector<int> memory_of;
  bool yield;
  cpu_set_t affinity;  ///< of the caller, who drives unit 0; given back at the end
  std::vector<std::unique_ptr<Device>> devices;
  UnitMemories memories;                    ///< units that enqueue have their own
  std::vector<PlacedWeights> weights;       ///< per memory
  std::unique_ptr<ExchangeMemory> lasting;  ///< of vectors
  ModelVectors vectors;
  std::vector<std::vector<LayerKv>> kv;       ///< [unit][layer]
  std::unique_ptr<ExchangeMemory> exchanged;  ///< of buffers, flags and stamps
  StepBuffers buffers;
  int64_t context = 0;

  std::vector<Program> programs;
  uint64_t recordings = 0;  ///< given out
  size_t program = 0;       ///< of the last run
  Step step;                ///< the last run
  Sampler sampler;
  int64_t kept = 0;  ///< rows that the sampler accepted
  Timeline timeline;

  std::span<Flag> flags;      ///< of the program with most of them
  std::span<int64_t> stamps;  ///< [task x 2] begin and end, ns
  int64_t start_ns = 0;
  alignas(64) std::atomic<uint32_t> number{
      0};  ///< of the running step; drivers start when it changes
  std::vector<std::atomic<uint32_t>> unit_done;  ///< [unit] number of the step it has finished
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  std::mutex failure_mutex;
  std::exception_ptr failure;        ///< the first
  std::vector<std::thread> drivers;  ///< of units 1, 2, ...

  // executor.cpp
  State(const Model& m, const Plan& first, const std::vector<Unit>& units,
        const ExecutorOptions& o);
  ~State();
  void open_devices(const std::vector<Unit>& units);
  void adopt_plan(const Plan& next);
  void make_room(ptrdiff_t num_flags, ptrdiff_t num_stamps);
  std::span<const float> logits() const {
    return {buffers.logits.data(), static_cast<size_t>(step.logits_rows * model.spec.vocab_size)};
  }

  // drivers.cpp
  const Timeline& run(const Step& s, std::span<const int32_t> token_ids, const Sampler& chosen_by);
  Program& current() { return programs[program]; }
  void check(const Step& s, std::span<const int32_t> token_ids) const;
  void choose_program();
  void read_stamps();
  bool has_span(const Task& task) const;
  void drive(size_t unit);
  void walk(size_t unit) noexcept;
  void walk_lanes(size_t unit);
  void perform(Device& device, int id);
  void perform_beside(Device& device, int id);
  void fail(std::exception_ptr error);
  void do_task(Device& device, const Task& task);
  void sample(Device& device);
};

}  // namespace tandem
