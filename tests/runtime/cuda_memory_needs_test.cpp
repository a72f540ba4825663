// What a plan says about the memory of CUDA units is what an executor of it holds.
#include <doctest/doctest.h>

#include "kernels/cuda_workspace.h"
#include "runtime/memory_needs.h"
#include "tests/runtime/memory_use_check.h"
#include "tests/runtime/units_of_kinds.h"
#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

/// Sizes that fill no 256 bytes.
ModelSpec ragged(DType dtype, bool tied) {
  ModelSpec spec = tiny_model({.hidden = 96,
                               .intermediate = 352,
                               .kv_heads = 3,
                               .group = 2,
                               .head_dim = 32,
                               .vocab = 500,
                               .dtype = dtype});
  spec.tied_embedding = tied;
  return spec;
}

ExecutorOptions options(int64_t prompt) {
  return options_for({.context = 300, .tokens = 2, .prompt = prompt});
}

}  // namespace

TEST_CASE("an executor with CUDA units holds what its plan needs, before its steps and after") {
  for (const DType dtype : {DType::kQ8_0, DType::kF16})
    for (const bool tied : {false, true}) {
      const ModelSpec spec = ragged(dtype, tied);
      const Model model = synthesize_model(spec, 1);
      for (const std::string kinds : {"g", "gc", "cg", "gg"})
        for (const int64_t prompt : {8, 40}) {
          const std::vector<Unit> units = units_of_kinds(kinds);
          Plan plan = even_plan(spec, names_of(units));
          plan.embedding = static_cast<int>(units.size()) - 1;
          CAPTURE(name(dtype));
          CAPTURE(tied);
          CAPTURE(kinds);
          CAPTURE(prompt);
          const std::vector<MemoryUse> needed = memory_needs(spec, plan, units, options(prompt));
          Executor executor(model, plan, units, options(prompt));
          check_equal(executor.memory(), needed);
          const std::vector<int32_t> tokens(static_cast<size_t>(prompt), 1);
          executor.run({.tokens = prompt, .context = 0, .parents = {}}, tokens);
          check_equal(executor.memory(), needed);
        }
    }
}

TEST_CASE("a CUDA device holds what its units need in any plan, once") {
  const ModelSpec spec = ragged(DType::kQ4_0, false);
  const Model model = synthesize_model(spec, 1);
  std::vector<Unit> units = units_of_kinds("ggc");
  units[1].index = units[0].index;
  units[1].memory = units[0].memory;
  ExecutorOptions all = options(8);
  all.other_plans = {single_unit_plan(spec, names_of(units), 0),
                     single_unit_plan(spec, names_of(units), 1)};
  const Plan plan = even_plan(spec, names_of(units));
  const std::vector<MemoryUse> needed = memory_needs(spec, plan, units, all);
  CHECK(needed[1].weights == 0);
  check_equal(Executor(model, plan, units, all).memory(), needed);
}

TEST_CASE("the rows of an embedding lie on the host, where its unit is a CUDA unit") {
  for (const bool tied : {false, true}) {
    const ModelSpec spec = ragged(DType::kF16, tied);
    const std::vector<Unit> units = units_of_kinds("cg");
    Plan plan = single_unit_plan(spec, names_of(units), 1);
    plan.embedding = 1;
    const std::vector<MemoryUse> needed = memory_needs(spec, plan, units, options(8));
    CHECK(needed[1].host == table_bytes(spec));
    CHECK(embedding_bytes(spec, {&plan, 1}, units) == table_bytes(spec));
    CHECK(needed[0].weights == 0);
    // A CPU unit has it with its weights, and none beside a tied head of its own.
    plan = single_unit_plan(spec, names_of(units), 0);
    const std::vector<MemoryUse> on_cpu = memory_needs(spec, plan, units, options(8));
    CHECK(on_cpu[0].host == 0);
    CHECK(embedding_bytes(spec, {&plan, 1}, units) == (tied ? 0 : table_bytes(spec)));
  }
}

TEST_CASE("a CUDA unit has a copy of what units exchange; the host's is the first unit's") {
  const ModelSpec spec = ragged(DType::kF16, false);
  const auto needs = [&](const std::string& kinds) {
    const std::vector<Unit> units = units_of_kinds(kinds);
    return memory_needs(spec, even_plan(spec, names_of(units)), units, options(8));
  };
  const int64_t scratch = cuda::cuda_workspace(device_limits(spec, options(8))).bytes();
  const std::vector<MemoryUse> cpu_first = needs("cg"), cuda_first = needs("gc");
  const int64_t buffers = cpu_first[1].workspace - scratch;
  CHECK(buffers > 0);
  CHECK(cuda_first[0].workspace == scratch + buffers);
  CHECK(cuda_first[0].host == buffers + table_bytes(spec));
  CHECK(cpu_first[0].workspace == cuda_first[1].workspace + buffers);
}

}  // namespace tandem
