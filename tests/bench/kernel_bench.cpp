// Single kernels through Google Benchmark: bytes and multiply-adds declared, checked against the
// generic set first.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernel_set.h"
#include "kernels/memory.h"

namespace tandem {
namespace {

constexpr int64_t kK = 2048;
constexpr int64_t kPanels = 64;

/// Panels of random weights and prepared random inputs.
struct LinearCase {
  DType dtype;
  std::shared_ptr<std::byte[]> panels;
  std::vector<float> x;
  std::shared_ptr<std::byte[]> prepared;
  std::vector<float> y;

  LinearCase(const KernelSet& set, DType type, int64_t tokens) : dtype(type) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    panels = map_memory(kPanels * panel_bytes(dtype, kK));
    std::vector<std::byte> row(static_cast<size_t>(row_bytes(dtype, kK)));
    for (auto& byte : row)
      byte = static_cast<std::byte>(random() & 0x3b);  // every f16 and bf16 in it is finite
    const std::byte* rows[16];
    for (auto& r : rows) r = row.data();
    for (int64_t p = 0; p < kPanels; ++p)
      pack_panel(dtype, rows, kK, panels.get() + p * panel_bytes(dtype, kK));
    const ActivationFormat format = set.format(dtype);
    const int64_t stride = activation_row_bytes(format, kK);
    prepared = map_memory(tokens * stride);
    x.resize(static_cast<size_t>(tokens * kK));
    for (float& v : x) v = normal(random);
    for (int64_t t = 0; t < tokens; ++t)
      set.prepare(format, x.data() + t * kK, kK, prepared.get() + t * stride);
    y.resize(static_cast<size_t>(tokens * kPanels * 16));
  }

  void run(const KernelSet& set, int64_t tokens) {
    set.linear({.dtype = dtype,
                .panels = panels.get(),
                .num_panels = kPanels,
                .k = kK,
                .x = {prepared.get(), activation_row_bytes(set.format(dtype), kK), kK},
                .tokens = tokens,
                .y = y.data(),
                .y_stride = kPanels * 16,
                .ask_ahead = ask_ahead_here()});
  }
};

void linear(benchmark::State& state, const KernelSet* set, DType dtype) {
  const int64_t tokens = state.range(0);
  LinearCase test(*set, dtype, tokens);
  LinearCase expected(*compiled_kernel_sets().back(), dtype, tokens);
  test.run(*set, tokens);
  expected.run(*compiled_kernel_sets().back(), tokens);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < test.y.size(); ++i) {
    difference += std::pow(test.y[i] - expected.y[i], 2);
    norm += std::pow(expected.y[i], 2);
  }
  if (!(difference <= 1e-4 * norm))
    return state.SkipWithError("differs from the generic kernel set");
  for (auto _ : state) test.run(*set, tokens);
  state.SetBytesProcessed(state.iterations() * kPanels * panel_bytes(dtype, kK));
  state.counters["flop/s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * 2 * kPanels * 16 * kK * tokens),
                         benchmark::Counter::kIsRate);
}

}  // namespace

void register_kernel_benches() {
  for (const KernelSet* set : kernel_sets())
    for (const DTypeInfo& d : kDTypes)
      benchmark::RegisterBenchmark(
          fmt::format("linear/{}/{}", set->name, d.name).c_str(),
          [set, dtype = d.dtype](benchmark::State& state) { linear(state, set, dtype); })
          ->Arg(1)
          ->Arg(4)
          ->Arg(16)
          ->Arg(kMostTokensAtOnce);
}

}  // namespace tandem
