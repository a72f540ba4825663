// What `./dev gpu bench` prints: the speeds that a CUDA unit must have, each beside its bar, and
// all but times as a share of what the same device copies in the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/model.h"

namespace tandem::bench {

/// kBytesPerS has no bar, kShare is at least its bar, times are at most theirs.
enum class Measure { kBytesPerS, kShare, kMicroseconds, kSeconds };

struct GpuRow {
  std::string what;
  Measure measure = Measure::kShare;
  double measured = 0;
  double bar = 0;

  bool holds() const;
};

/// How large everything is that is measured.
struct GpuSizes {
  int64_t copy_bytes = 0;
  int64_t rotated_bytes = 0;                 ///< more than a cache holds
  int64_t large_bytes = 0, small_bytes = 0;  ///< of a linear
  int64_t short_context = 0, long_context = 0;
  int64_t prompt = 0;
  int runs = 0;  ///< of which a median is taken
  std::string model_name;
  std::function<Model()> model;       ///< of BF16 weights
  std::function<double()> profile_s;  ///< wall time of a profile of this machine
};
/// As the bars are meant.
GpuSizes full_sizes();

/// In the order of the table; `progress` is told what comes next.
std::vector<GpuRow> gpu_rows(const GpuSizes& sizes,
                             const std::function<void(const std::string&)>& progress);

/// Columns: what, measured, bar, holds.
std::string gpu_table(const std::vector<GpuRow>& rows);
nlohmann::ordered_json gpu_json(const std::vector<GpuRow>& rows);

}  // namespace tandem::bench
