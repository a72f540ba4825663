// What the probes share: opened units with the memory they work on, and what is to be measured of
// them. Internal.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "profiles/measure.h"
#include "profiles/pinned.h"
#include "profiles/probe.h"
#include "profiles/read_rate.h"

namespace tandem {

inline constexpr int64_t kBenchK = kProfiledRow;  ///< input row of the measured linears
inline constexpr int64_t kBenchShortK = 256;      ///< a second one, for the preparation's curve
/// Rows of one token that are compared with those of kBenchK, ascending.
inline constexpr std::array<int64_t, 2> kOtherRows = {512, 6144};
inline constexpr int64_t kBenchMaxTokens = 512;

/// Which points are measured. Every list ascends.
struct Grid {
  std::vector<int64_t> tokens;  ///< of linears
  std::vector<int64_t> dram_columns;
  std::vector<int64_t> cache_columns;
  std::vector<int64_t> attention_tokens;
  std::vector<int64_t> rows;  ///< tokens of the small stages
  std::vector<int64_t> contexts;
  std::vector<int64_t> head_dims;
  std::vector<int64_t> groups;
  int64_t max_flops = 0;  ///< of one call, so that it takes some milliseconds
};

/// Memory that all units of one weight_store() work on. Weights have columns enough to come from
/// DRAM each time.
struct SharedMemory {
  std::map<DType, std::shared_ptr<const PlacedMatrix>> weights;        ///< rows of kBenchK
  std::map<DType, std::shared_ptr<const PlacedMatrix>> short_weights;  ///< rows of kBenchShortK
  std::map<DType, std::vector<std::shared_ptr<const PlacedMatrix>>> other_weights;  ///< kOtherRows
  std::shared_ptr<const PlacedMatrix> streamed;  ///< null where the unit does not stream
  std::shared_ptr<std::byte[]> kv;               ///< finite f16 values, in the units' memory
  std::shared_ptr<std::byte[]>
      table;  ///< as many where the host reads them; where it can, the same
  int64_t kv_bytes = 0;
};

inline constexpr int64_t kBenchFloats = 4 << 20;
/// Of a matrix: an output of kBenchFloats begins that far behind its first value, see LinearWork.
inline constexpr int64_t kBenchMostColumns = kBenchFloats / 2;

/// Exchanged memory of one unit.
struct ExchangedBuffers {
  explicit ExchangedBuffers(Device& device);

  std::span<float> input;     ///< [kBenchFloats] in [-1, 1)
  std::span<float> output;    ///< [kBenchFloats]
  std::span<std::byte> step;  ///< finite f16 keys and values of kBenchMaxTokens new tokens
  std::span<int32_t> rows;    ///< [kBenchMaxTokens] 0, 1, 2, ...
  std::span<int32_t> index;   ///< [1]
  std::span<int64_t> stamps;  ///< [3] begin, end, and one for a probe of its own

 private:
  template <class T>
  std::span<T> take(int64_t count);

  std::vector<std::shared_ptr<std::byte[]>> memory_;
  std::vector<std::shared_ptr<void>> shares_;  ///< end before the memory does
};

/// One unit being measured.
struct UnitBench {
  UnitProfile* profile = nullptr;
  std::unique_ptr<Device> device;
  const SharedMemory* memory = nullptr;
  int64_t cache_bytes = 0;        ///< of the last-level cache, this unit's share
  std::vector<ReadRegion> dram;   ///< of a CPU unit
  std::vector<ReadRegion> cache;  ///< of a CPU unit
  std::unique_ptr<ExchangedBuffers> exchanged;
  DriverThread driver;
  uint64_t recordings = 0;  ///< given out

  float* in() const { return exchanged->input.data(); }
  float* out() const { return exchanged->output.data(); }
  /// Seconds per repetition of `work` on the unit's driver, after a call of `warm_up` that does not
  /// count.
  double time(const std::function<void()>& warm_up, const std::function<void()>& work,
              int repetitions);
  /// The same, warmed up by the work itself.
  double time(const std::function<void()>& work, int repetitions);
  /// The same for work that finds new memory at each call: where one call is a sample, the start
  /// does not weigh.
  double time_cold(const std::function<void()>& work, int repetitions);
  /// The same of a unit that enqueues, in a step that is not recorded.
  double time_plain(const std::function<void()>& work, int repetitions);
  /// The same for what every unit's driver does on the host.
  double time_on_host(const std::function<void()>& work, int repetitions);
  /// Seconds that a call of `work` takes beyond the next one when `stream` ran before it.
  double time_cold_start(const std::function<void()>& stream, const std::function<void()>& work);

 private:
  double time_at_once(const std::function<void()>& warm_up, const std::function<void()>& work,
                      int repetitions);
  double time_queued(const std::function<void()>& warm_up, const std::function<void()>& work,
                     int repetitions, bool recorded);
};

/// How much longer one time is than another; where noise hides that, what no clock tells apart. A
/// median of these is the median of the differences where that is above it.
inline double excess_s(double longer_s, double shorter_s) {
  return std::max(1e-9, longer_s - shorter_s);
}

/// Whether a unit copies what others computed: not where its memory is the host's. The kernels of
/// one that does are timed without publishing, which writes results over the link: most of them are
/// read by the unit itself alone.
inline bool copies_results(const UnitBench& bench) {
  return bench.device->enqueues() && bench.profile->unit.memory_bytes > 0;
}

/// Places weights and buffers, as much as leaves the machine most of its memory. `memories`
/// outlives the benches.
std::vector<std::unique_ptr<UnitBench>> open_benches(const Machine& machine,
                                                     MachineProfile& profile,
                                                     const std::vector<DType>& dtypes,
                                                     std::map<std::string, SharedMemory>& memories);

// Each lays out its part of the profile and adds a case per figure. Case::curve numbers go up from
// next_curve.
void add_memory_cases(UnitBench& bench, std::vector<Case>& cases);
void add_linear_cases(UnitBench& bench, const Grid& grid, int& next_curve,
                      std::vector<Case>& cases);
void add_attention_cases(UnitBench& bench, const Grid& grid, int& next_curve,
                         std::vector<Case>& cases);
void add_small_cases(UnitBench& bench, const Grid& grid, std::vector<Case>& cases);
/// Contention of all units; `profile` is laid out for it.
void add_contention_cases(const std::vector<std::unique_ptr<UnitBench>>& benches,
                          MachineProfile& profile, std::vector<Case>& cases);
/// Links between all units; `profile` is laid out for them.
void add_link_cases(const std::vector<std::unique_ptr<UnitBench>>& benches, MachineProfile& profile,
                    std::vector<Case>& cases);

/// Takes the time of preparing the input out of the measured linears.
void subtract_preparation(UnitProfile& profile);

/// One call after another of a linear kernel over weights from memory; each returns the bytes of
/// weights it read: of `columns` columns, or of all where the unit enqueues. Begins at `from` of
/// the matrix, in [0, 1): units that read one matrix at once begin apart, or one would find in a
/// shared cache what the other has just read.
std::function<int64_t()> streaming(UnitBench& bench, DType dtype, int64_t columns, double from);

/// The same of weights that are copied over the unit's link for every call.
std::function<int64_t()> streaming_over_link(UnitBench& bench);

/// One call that is compute-bound and stays in the cache: for units at once against alone.
void run_compute(const UnitBench& bench);

}  // namespace tandem
