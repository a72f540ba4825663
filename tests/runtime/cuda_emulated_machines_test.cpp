// The master test on machines that a test can only emulate: GPUs that share the host's memory, GPUs
// that read each other's and GPUs that cannot.
#include "tests/kernels/cuda_emulated_machine.h"
#include "tests/runtime/random_plans.h"
#include "tests/tuner/tiny_model.h"

namespace tandem {
namespace {

/// Random plans over the mixes, for some of the goldens of short prompts and common dtypes: each
/// takes a second, and ten under a sanitizer.
void check_mixes(const std::vector<std::string>& mixes) {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const uint64_t one_in = is_slow_here() ? 4 : 2;
  for (const Golden& golden : read_goldens()) {
    if (golden.tokens.size() > kMostEmulatedTokens || random() % one_in != 0) continue;
    RandomPlans test{.golden = golden, .random = random, .isa = random_isa(random)};
    if (!has_common_dtypes(test.model.spec)) continue;
    for (const std::string& kinds : mixes) check_random_plans(test, kinds);
  }
}

}  // namespace

TEST_CASE("a GPU that shares the host's memory changes no results beside CPU units") {
  const EmulatedMachine machine(2);
  cuda_emulation::set_integrated(true);
  check_mixes({"u", "cu", "ucu"});
}

TEST_CASE("a GPU that shares the host's memory has weights of its own there") {
  const EmulatedMachine machine(1);
  cuda_emulation::set_integrated(true);
  const Model model = synthesize_model(tiny_model(), 1);
  const std::vector<Unit> units = units_of_kinds("ccu");
  ExecutorOptions options = kSmall;
  options.other_plans = {single_unit_plan(model.spec, names_of(units), 0)};
  const Executor executor(model, even_plan(model.spec, names_of(units)), units, options);
  const std::vector<MemoryUse> held = executor.memory();
  CHECK(held[1].weights == 0);  // the first has all that CPU units share
  CHECK(held[2].weights > 0);
}

TEST_CASE("GPUs that cannot read each other's memory change no results") {
  const EmulatedMachine machine(2);
  cuda_emulation::set_peer_access(false);
  check_mixes({"gg", "cgg"});
}

}  // namespace tandem
