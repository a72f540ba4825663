#include "profiles/probe_bench.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/kernel_set.h"
#include "kernels/memory.h"

namespace tandem {
namespace {

/// Of a GPU's L2, well below what any of them has.
constexpr int64_t kCudaCacheBytes = 8 << 20;

/// How random bytes become finite numbers near 2^-7: word = (random & keep) | set.
struct BitPattern {
  uint64_t keep;
  uint64_t set;
};

BitPattern pattern_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {0x807fffff807fffff, 0x3c0000003c000000};
    case DType::kF16:
      return {0x83ff83ff83ff83ff, 0x2000200020002000};
    case DType::kBF16:
      return {0x807f807f807f807f, 0x3c003c003c003c00};
    default:
      return {~uint64_t{0}, 0};
  }
}

/// Valid rows: 16 different ones again and again, since no kernel's time depends on the values.
void fill_rows(DType dtype, int64_t k, int64_t rows, std::byte* out) {
  const int64_t stride = row_bytes(dtype, k);
  const int64_t distinct = std::min<int64_t>(rows, 16) * stride;
  const BitPattern pattern = pattern_of(dtype);
  std::mt19937_64 random(1);
  for (int64_t at = 0; at < distinct; at += 8) {
    const uint64_t word = (random() & pattern.keep) | pattern.set;
    std::memcpy(out + at, &word, static_cast<size_t>(std::min<int64_t>(8, distinct - at)));
  }
  if (info(dtype).block_size > 1)
    for (int64_t at = 0; at < distinct; at += info(dtype).block_bytes)
      set_block_scale(dtype, 0x1p-9f, out + at);
  for (int64_t at = distinct; at < rows * stride; at += distinct)
    std::memcpy(out + at, out, static_cast<size_t>(std::min(distinct, rows * stride - at)));
}

/// What a unit can keep in its last-level cache when every core that shares it does the same.
int64_t cache_share(const Machine& machine, const Unit& unit) {
  CacheLevel last{.level = 0, .bytes = 1 << 20, .sharing_cores = 1};
  for (const CacheLevel& cache : machine.caches)
    if (cache.level > last.level) last = cache;
  const auto cores = static_cast<int64_t>(unit.cores.size());
  return std::max<int64_t>(last.bytes * cores / std::max(last.sharing_cores, cores) / 2, 64 << 10);
}

std::shared_ptr<const PlacedMatrix> place(UnitBench& bench, DType dtype, int64_t k, int64_t bytes,
                                          std::byte* rows, Home home = Home::kResident) {
  const int64_t wanted = std::min(bytes / row_bytes(dtype, k), kBenchMostColumns);
  const int64_t columns = std::max(kColumnAlign, wanted / kColumnAlign * kColumnAlign);
  std::shared_ptr<const PlacedMatrix> matrix;
  // On the driver, and not recorded: a CUDA unit records no placing.
  const auto work = [&] {
    bench.device->begin_step();
    fill_rows(dtype, k, columns, rows);
    matrix = bench.device->place({.dtype = dtype, .columns = columns, .k = k, .rows = rows},
                                 {0, columns}, home);
    bench.device->end_step();
    return 0.0;
  };
  bench.driver.start(work).get();
  return matrix;
}

void fill_memory(UnitBench& bench, SharedMemory& memory, const std::vector<DType>& dtypes,
                 int64_t bytes) {
  const std::shared_ptr<std::byte[]> rows = map_memory(bytes + (1 << 20));
  for (const DType dtype : dtypes) {
    memory.weights[dtype] = place(bench, dtype, kBenchK, bytes, rows.get());
    memory.short_weights[dtype] = place(bench, dtype, kBenchShortK, 1, rows.get());
    if (bench.device->enqueues()) continue;
    for (const int64_t k : kOtherRows)
      memory.other_weights[dtype].push_back(place(bench, dtype, k, bytes / 4, rows.get()));
  }
  memory.kv_bytes = bytes;
  memory.kv = bench.device->allocate(bytes);
  if (!bench.device->enqueues()) {
    memory.table = memory.kv;
    fill_rows(DType::kF16, bytes / 32, 16, memory.kv.get());
    return;
  }
  if (copies_results(bench))
    memory.streamed = place(bench, dtypes.front(), kBenchK, std::min(bytes, 2 * kStreamSlotBytes),
                            rows.get(), Home::kStreamed);
  memory.table = rows;
  fill_rows(DType::kF16, bytes / 32, 16, rows.get());
  bench.device->write(memory.kv.get(), rows.get(), bytes);
}

bool shares_core(const Unit& unit, const MachineProfile& profile) {
  return std::any_of(profile.units.begin(), profile.units.end(), [&](const UnitProfile& other) {
    return other.unit.name != unit.name &&
           std::find_first_of(unit.cores.begin(), unit.cores.end(), other.unit.cores.begin(),
                              other.unit.cores.end()) != unit.cores.end();
  });
}

std::unique_ptr<UnitBench> open_bench(const Machine& machine, UnitProfile& profile, bool yield,
                                      int64_t dram_bytes) {
  auto bench = std::make_unique<UnitBench>();
  const Unit& unit = profile.unit;
  bench->profile = &profile;
  bench->device = open_device(unit, yield);
  // More columns than any device multiplies at once.
  bench->device->reserve({.tokens = kBenchMaxTokens,
                          .k = kOtherRows.back(),
                          .columns = 1 << 16,
                          .context = 8192,
                          .heads = 64,
                          .head_dim = 128});
  if (unit.kind == UnitKind::kCpu) {
    bench->cache_bytes = cache_share(machine, unit);
    bench->dram = make_read_regions(unit.cores, unit.isa, dram_bytes);
    bench->cache = make_read_regions(unit.cores, unit.isa, bench->cache_bytes);
  } else {
    bench->cache_bytes = std::min(kCudaCacheBytes, dram_bytes);
  }
  bench->exchanged = std::make_unique<ExchangedBuffers>(*bench->device);
  return bench;
}

}  // namespace

template <class T>
std::span<T> ExchangedBuffers::take(int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  memory_.push_back(map_memory(bytes));
  return {reinterpret_cast<T*>(memory_.back().get()), static_cast<size_t>(count)};
}

ExchangedBuffers::ExchangedBuffers(Device& device) {
  constexpr int64_t kStepBytes = 16 << 20;  // 4 heads of 128 and more, all in f32 if need be
  input = take<float>(kBenchFloats);
  output = take<float>(kBenchFloats);
  step = take<std::byte>(kStepBytes);
  rows = take<int32_t>(kBenchMaxTokens);
  index = take<int32_t>(1);
  stamps = take<int64_t>(3);
  std::mt19937 random(1);
  for (float& value : input) value = static_cast<float>(static_cast<int32_t>(random())) * 0x1p-31f;
  fill_rows(DType::kF16, kStepBytes / 32, 16, step.data());
  std::iota(rows.begin(), rows.end(), 0);
  // Shared when they are filled: a unit's own copy begins as what they hold then.
  for (const std::span<std::byte> bytes :
       {std::as_writable_bytes(input), std::as_writable_bytes(output), step,
        std::as_writable_bytes(rows), std::as_writable_bytes(index),
        std::as_writable_bytes(stamps)})
    shares_.push_back(device.share(bytes.data(), std::ssize(bytes)));
}

int64_t beyond_cache_bytes(const Machine& machine) {
  const int64_t wanted = std::max<int64_t>(8 * machine.last_level_bytes(), 64 << 20);
  // A profile of all dtypes holds one and a half times as much for each: half of the memory.
  const int64_t most = machine.memory_bytes / 48;
  constexpr int64_t kLeast = 1 << 20;  // holds what any probe touches at once
  return std::max(kLeast, std::min(wanted, most) / 4096 * 4096);
}

double UnitBench::time(const std::function<void()>& warm_up, const std::function<void()>& work,
                       int repetitions) {
  return device->enqueues() ? time_queued(warm_up, work, repetitions, true)
                            : time_at_once(warm_up, work, repetitions);
}

double UnitBench::time_at_once(const std::function<void()>& warm_up,
                               const std::function<void()>& work, int repetitions) {
  const auto job = [&] {
    device->begin_step();
    warm_up();
    const double start_s = steady_now_s();
    for (int i = 0; i < repetitions; ++i) work();
    const double seconds = steady_now_s() - start_s;
    device->end_step();
    return seconds / repetitions;
  };
  return driver.start(job).get();
}

double UnitBench::time(const std::function<void()>& work, int repetitions) {
  return time(work, work, repetitions);
}

double UnitBench::time_cold(const std::function<void()>& work, int repetitions) {
  return repetitions > 1 ? time(work, repetitions) : time([] {}, work, repetitions);
}

/// The calls are recorded, as the executor's are, or not; the device's own clock times them.
double UnitBench::time_queued(const std::function<void()>& warm_up,
                              const std::function<void()>& work, int repetitions, bool recorded) {
  const auto job = [&] {
    device->begin_step();
    warm_up();
    device->launch();
    device->end_step();
    device->begin_step(recorded ? ++recordings : 0);
    device->stamp(&exchanged->stamps[0]);
    for (int i = 0; i < repetitions; ++i) work();
    device->stamp(&exchanged->stamps[1]);
    device->launch();
    device->end_step();
    device->forget_recordings();
    return 1e-9 * static_cast<double>(exchanged->stamps[1] - exchanged->stamps[0]) / repetitions;
  };
  return driver.start(job).get();
}

double UnitBench::time_plain(const std::function<void()>& work, int repetitions) {
  return time_queued(work, work, repetitions, false);
}

double UnitBench::time_on_host(const std::function<void()>& work, int repetitions) {
  return time_at_once(work, work, repetitions);
}

double UnitBench::time_cold_start(const std::function<void()>& stream,
                                  const std::function<void()>& work) {
  const auto job = [&] {
    device->begin_step();
    stream();
    const double start_s = steady_now_s();
    work();
    const double again_s = steady_now_s();
    work();
    const double end_s = steady_now_s();
    device->end_step();
    return excess_s(again_s - start_s, end_s - again_s);
  };
  return driver.start(job).get();
}

namespace {

/// Beyond the caches of the unit that reads it. No GPU has an L2 of an eighth of this (H200: 60
/// MB), and the smallest have the memory for it 16 times.
int64_t beyond_unit_cache_bytes(const Machine& machine, const Unit& unit) {
  constexpr int64_t kBeyondAnyL2 = int64_t{512} << 20;
  if (unit.memory_bytes > 0) return std::min(kBeyondAnyL2, unit.memory_bytes / 16) / 4096 * 4096;
  return beyond_cache_bytes(machine);
}

}  // namespace

std::vector<std::unique_ptr<UnitBench>> open_benches(
    const Machine& machine, MachineProfile& profile, const std::vector<DType>& dtypes,
    std::map<std::string, SharedMemory>& memories) {
  std::vector<std::unique_ptr<UnitBench>> benches;
  for (UnitProfile& unit : profile.units) {
    const int64_t bytes = beyond_unit_cache_bytes(machine, unit.unit);
    benches.push_back(open_bench(machine, unit, shares_core(unit.unit, profile), bytes));
    SharedMemory& memory = memories[weight_store(unit.unit)];
    if (memory.kv == nullptr) fill_memory(*benches.back(), memory, dtypes, bytes);
    benches.back()->memory = &memory;
  }
  return benches;
}

}  // namespace tandem
