// `./dev bench`: whole-model decode against the DRAM bandwidth of the same run, then single
// kernels.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sched.h>

#include <cstdlib>
#include <exception>
#include <vector>

#include "bench/decode_bench.h"

namespace tandem {
void register_kernel_benches();

namespace {

std::vector<int> allowed_cores() {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE && cores.size() < 2; ++core)
    if (CPU_ISSET(static_cast<size_t>(core), &set)) cores.push_back(core);
  return cores;
}

void print_decode_table() {
  const std::vector<int> cores = allowed_cores();
  fmt::print("decode, tinyllama-1.1b, {} cores, context 0 (medians of interleaved rounds)\n",
             cores.size());
  fmt::print("{:6} {:>10} {:>12} {:>8} {:>8} {:>12} {:>12}\n", "dtype", "DRAM GB/s", "decode GB/s",
             "share", "spread", "tokens/s", "split/one");
  for (DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
    const DecodeRow row = bench_decode("tinyllama-1.1b", dtype, cores, 9);
    fmt::print("{:6} {:>10.1f} {:>12.1f} {:>7.1f}% {:>7.1f}% {:>12.1f} {:>12.3f}\n", name(dtype),
               row.dram_read_per_s / 1e9, row.one_unit_per_s / 1e9, 100 * row.share,
               100 * row.share_spread, row.one_unit_tokens_per_s, row.split_over_one);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  try {
    tandem::print_decode_table();
  } catch (const std::exception& error) {
    fmt::print(stderr, "tandem_bench: {}\n", error.what());
    return EXIT_FAILURE;
  }
  tandem::register_kernel_benches();
  benchmark::RunSpecifiedBenchmarks();
}
