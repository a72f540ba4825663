// `./dev bench`: whole-model decode against the DRAM bandwidth of the same run, steps of several
// tokens and prefill against the arithmetic too, a peer on the same bytes, then single kernels.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <vector>

#include "bench/decode_bench.h"
#include "bench/peer_bench.h"
#include "bench/step_bench.h"
#include "tuner/cli.h"

namespace tandem {
void register_kernel_benches();

namespace {

struct BenchOptions {
  std::string shape = "tinyllama-1.1b";
  std::vector<std::string> dtypes{"bf16", "q8_0", "q4_0"};
  int64_t prefill = 512;
  int rounds = 9;
  int step_rounds = 5;
  PeerOptions peer;
  std::vector<std::string> peer_dtypes{"bf16", "q8_0", "q4_0", "q4_k_m"};
};

std::vector<int> allowed_cores() {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE && cores.size() < 2; ++core)
    if (CPU_ISSET(static_cast<size_t>(core), &set)) cores.push_back(core);
  return cores;
}

std::vector<DType> dtypes_of(const BenchOptions& options) {
  std::vector<DType> dtypes;
  for (const std::string& text : options.dtypes)
    dtypes.push_back(parse_dtype_option("--dtypes", text));
  return dtypes;
}

void print_decode_table(const BenchOptions& options, const std::vector<int>& cores) {
  fmt::print("decode, {}, {} cores, context 0 (medians of interleaved rounds)\n", options.shape,
             cores.size());
  fmt::print("{:6} {:>10} {:>12} {:>8} {:>8} {:>12} {:>12}\n", "dtype", "DRAM GB/s", "decode GB/s",
             "share", "spread", "tokens/s", "split/one");
  for (const DType dtype : dtypes_of(options)) {
    const DecodeRow row = bench_decode(options.shape, dtype, cores, options.rounds);
    fmt::print("{:6} {:>10.1f} {:>12.1f} {:>7.1f}% {:>7.1f}% {:>12.1f} {:>12.3f}\n", name(dtype),
               row.dram_read_per_s / 1e9, row.one_unit_per_s / 1e9, 100 * row.share,
               100 * row.share_spread, row.one_unit_tokens_per_s, row.split_over_one);
    std::fflush(stdout);
  }
}

void print_step_table(const BenchOptions& options, const std::vector<int>& cores) {
  fmt::print("\nsteps of several tokens, {}, {} cores, context 0 (medians of interleaved rounds)\n",
             options.shape, cores.size());
  fmt::print("{:6} {:>7} {:>10} {:>8} {:>10} {:>9} {:>12} {:>14}\n", "dtype", "tokens", "ms",
             "spread", "tokens/s", "x of one", "of the DRAM", "of the peak");
  std::vector<int64_t> widths{1, 2, 4, 8, 16};
  if (options.prefill > widths.back()) widths.push_back(options.prefill);
  for (const DType dtype : dtypes_of(options)) {
    const StepTable table = bench_steps(options.shape, dtype, cores, widths, options.step_rounds);
    for (const StepRow& row : table.rows)
      fmt::print("{:6} {:>7} {:>10.1f} {:>7.1f}% {:>10.1f} {:>9.2f} {:>11.1f}% {:>13.1f}%\n",
                 name(dtype), row.tokens, 1e3 * row.seconds, 100 * row.spread, row.tokens_per_s(),
                 row.over_one, 100 * row.of_memory, 100 * row.of_arithmetic);
    fmt::print("{:6} DRAM read {:.1f} GB/s, arithmetic on registers {:.0f} G operations/s\n", "",
               table.dram_read_per_s / 1e9, table.peak_per_s / 1e9);
    std::fflush(stdout);
  }
}

std::string what(const PeerRow& row) {
  if (!row.decode) return fmt::format("step of {}", row.tokens);
  return fmt::format("decode at {}", row.depth);
}

void print_peer_table(const BenchOptions& options, const std::vector<int>& cores) {
  fmt::print("\n{} beside {} {} (tokens/s, medians of rounds in turn)\n", options.shape,
             options.peer.program, options.peer.arguments);
  fmt::print("{:8} {:>7} {:>14} {:>10} {:>10} {:>7} {:>8}\n", "dtype", "threads", "", "ours",
             "peer's", "ratio", "spread");
  for (const std::string& dtype : options.peer_dtypes)
    for (size_t threads = cores.size(); threads > 0; threads /= 2) {
      const std::vector<int> used(cores.begin(), cores.begin() + static_cast<ptrdiff_t>(threads));
      for (const PeerRow& row : bench_against_peer(options.shape, dtype, used, options.peer))
        fmt::print("{:8} {:>7} {:>14} {:>10.1f} {:>10.1f} {:>7.2f} {:>7.1f}%\n", dtype, threads,
                   what(row), row.ours_per_s, row.peers_per_s, row.ratio, 100 * row.spread);
      std::fflush(stdout);
    }
}

/// What is not for this program stays in argv, for Google Benchmark.
BenchOptions parse(int& argc, char** argv) {
  BenchOptions options;
  CLI::App app{"Measured figures; other options go to Google Benchmark"};
  app.add_option("--shape", options.shape, "a compiled-in shape")->capture_default_str();
  app.add_option("--dtypes", options.dtypes, "of the weights")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--prefill", options.prefill, "tokens of the prefill; 0 measures none")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "of the decode table; 0 measures none")
      ->capture_default_str();
  app.add_option("--step-rounds", options.step_rounds, "of the table of steps; 0 measures none")
      ->capture_default_str();
  app.add_option("--peer", options.peer.program, "llama-bench, to be run on the same GGUF in turn");
  app.add_option("--peer-args", options.peer.arguments, "of its own, for example '-fa 1'");
  app.add_option("--peer-dtypes", options.peer_dtypes, "dtypes and mixes of that table")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--peer-depth", options.peer.depth,
                 "positions before a second decode; 0 measures none")
      ->capture_default_str();
  app.add_option("--peer-rounds", options.peer.rounds, "of that table")->capture_default_str();
  app.allow_extras();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  options.peer.prefill = options.prefill;
  static std::vector<std::string> extras = app.remaining();
  argc = 1;
  for (std::string& extra : extras) argv[argc++] = extra.data();
  return options;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  const tandem::BenchOptions options = tandem::parse(argc, argv);
  benchmark::Initialize(&argc, argv);
  try {
    const std::vector<int> cores = tandem::allowed_cores();
    if (options.rounds > 0) tandem::print_decode_table(options, cores);
    if (options.step_rounds > 0) tandem::print_step_table(options, cores);
    if (!options.peer.program.empty()) tandem::print_peer_table(options, cores);
  } catch (const std::exception& error) {
    fmt::print(stderr, "tandem_bench: {}\n", error.what());
    return EXIT_FAILURE;
  }
  tandem::register_kernel_benches();
  benchmark::RunSpecifiedBenchmarks();
}
