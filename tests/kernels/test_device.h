// CPU units and KV buffers for tests of Device.
#pragma once

#include <sched.h>

#include <memory>
#include <string>
#include <vector>

#include "attention_problem.h"
#include "test_data.h"

namespace tandem {

/// The calling thread gets its affinity back afterwards.
class KeptAffinity {
 public:
  KeptAffinity() { sched_getaffinity(0, sizeof before_, &before_); }
  ~KeptAffinity() { sched_setaffinity(0, sizeof before_, &before_); }
  KeptAffinity(const KeptAffinity&) = delete;
  KeptAffinity& operator=(const KeptAffinity&) = delete;

  /// The allowed cores in turn, so that three workers share two cores.
  std::vector<int> cores(int workers) const {
    std::vector<int> allowed, cores;
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(static_cast<size_t>(core), &before_)) allowed.push_back(core);
    for (int i = 0; i < workers; ++i)
      cores.push_back(allowed[static_cast<size_t>(i) % allowed.size()]);
    return cores;
  }

 private:
  cpu_set_t before_;
};

/// An open unit of some workers within a step.
class TestUnit {
 public:
  explicit TestUnit(const KernelSet& set, int workers = 1)
      : device_(open_cpu_device(
            {.cores = affinity_.cores(workers), .isa = std::string(set.name), .yield = true})) {
    device_->begin_step();
  }
  ~TestUnit() { device_->end_step(); }
  TestUnit(const TestUnit&) = delete;
  TestUnit& operator=(const TestUnit&) = delete;

  Device* operator->() const { return device_.get(); }
  Device& operator*() const { return *device_; }

 private:
  KeptAffinity affinity_;
  std::unique_ptr<Device> device_;
};

/// Relative error that a kernel set's preparation of inputs brings to a linear of random values,
/// with the rounding of its sums: half a step of 8 (BF16) or 7 bits of the block's largest (Q8).
inline double linear_tolerance(const KernelSet& set, DType dtype) {
  switch (set.format(dtype)) {
    case ActivationFormat::kF32:
      return 1e-5;
    case ActivationFormat::kBF16:
      return 5e-3;
    case ActivationFormat::kQ8:
      return 2e-2;
  }
  return 0;
}

/// Keys and values of a cache or a step buffer, in a unit's memory.
class TestKv {
 public:
  TestKv(Device& device, DType dtype, Range kv_heads, Range positions, int64_t head_dim)
      : view_{.dtype = dtype, .kv_heads = kv_heads, .positions = positions, .head_dim = head_dim} {
    keys_ = device.allocate(kv_heads.size() * view_.k_head_bytes());
    values_ = device.allocate(kv_heads.size() * view_.v_head_bytes());
    view_.k = keys_.get();
    view_.v = values_.get();
  }

  const KvView& view() const { return view_; }
  double key(int64_t head, int64_t row, int64_t d) const { return key_at(view_, head, row, d); }
  double value(int64_t head, int64_t row, int64_t d) const { return value_at(view_, head, row, d); }
  void put(int64_t row, const reference::Matrix& keys, const reference::Matrix& values,
           int64_t from) const {
    put_row(view_, row, keys, values, from);
  }

 private:
  KvView view_;
  std::shared_ptr<std::byte[]> keys_, values_;
};

}  // namespace tandem
