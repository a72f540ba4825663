// An executor whose CUDA devices fail: one error, whoever waits for whom, and it can be closed.
#include <doctest/doctest.h>

#include "kernels/error.h"
#include "runtime/executor.h"
#include "tests/kernels/cuda_emulated_machine.h"
#include "tests/runtime/units_of_kinds.h"
#include "tests/tuner/tiny_model.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

const ExecutorOptions kOptions{.max_context = 256, .max_tokens = 32, .progress = {}};

/// What the first of a few steps that fails says; "" where none does.
std::string failure_of(Executor& executor) {
  try {
    for (int32_t token = 1; token < 6; ++token)
      executor.run({.tokens = 1, .context = executor.context(), .parents = {}}, {&token, 1});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE(
    "a device that is lost is one error of the step, for every unit, and the executor closes") {
  const Model model = synthesize_model(tiny_model(), 1);
  for (const std::string kinds : {"g", "gg", "gc", "cg", "cgg"})
    for (int after = 0; after < 40; after += 7)
      for (const bool while_running : {false, true}) {
        CAPTURE(kinds);
        CAPTURE(after);
        CAPTURE(while_running);
        const EmulatedMachine machine(2);
        const std::vector<Unit> units = units_of_kinds(kinds);
        Executor executor(model, even_plan(model.spec, names_of(units)), units, kOptions);
        if (while_running)
          cuda_emulation::fail_while_running_after(after);
        else
          cuda_emulation::fail_after(after);
        const std::string message = failure_of(executor);
        CHECK(message.starts_with("gpu"));
        CHECK(message.find(": CUDA: ") != std::string::npos);
        CHECK(message.find('\n') == std::string::npos);
        CHECK(failure_of(executor) != "");
      }
}

TEST_CASE(
    "memory that runs out while an executor is made is one error, and all of it is given back") {
  const Model model = synthesize_model(tiny_model(), 1);
  for (const std::string kinds : {"g", "gc", "cgg"})
    for (const int64_t bytes : {0, 100, 10'000, 50'000, 100'000}) {
      CAPTURE(kinds);
      CAPTURE(bytes);
      const EmulatedMachine machine(2);
      cuda_emulation::set_memory_bytes(bytes);
      const auto before = cuda_emulation::live();
      const std::vector<Unit> units = units_of_kinds(kinds);
      CHECK_THROWS_WITH_AS(Executor(model, even_plan(model.spec, names_of(units)), units, kOptions),
                           doctest::Contains(" refused "), Error);
      const auto after = cuda_emulation::live();
      CHECK(after.device_allocations == before.device_allocations);
      CHECK(after.pinned_allocations == before.pinned_allocations);
      CHECK(after.streams == before.streams);
    }
}

TEST_CASE("memory that runs out before a step is an error of it, and where there is more it runs") {
  const EmulatedMachine machine(2);
  const Model model = synthesize_model(tiny_model(), 1);
  const std::vector<Unit> units = units_of_kinds("gc");
  Executor executor(model, even_plan(model.spec, names_of(units)), units, kOptions);
  cuda_emulation::set_memory_bytes(1);
  // A step of a new kind needs flags and stamps. Nothing is left behind that a second try would
  // use.
  for (int i = 0; i < 2; ++i)
    CHECK(failure_of(executor).find(": the device refused") != std::string::npos);
  cuda_emulation::set_memory_bytes(int64_t{1} << 30);
  CHECK(failure_of(executor) == "");
  CHECK(executor.context() == 5);
}

TEST_CASE(
    "a device that is not there, or whose driver is too old, is an error before anything is "
    "placed") {
  const Model model = synthesize_model(tiny_model(), 1);
  const EmulatedMachine machine(1);
  std::vector<Unit> units = units_of_kinds("cg");
  units[1].index = 1;
  const auto open = [&] {
    Executor(model, even_plan(model.spec, names_of(units)), units, kOptions);
  };
  CHECK_THROWS_WITH_AS(
      open(), doctest::Contains("gpu1: no CUDA device 1 on this machine (1 found)"), Error);
  cuda_emulation::set_driver_version(12040);
  CHECK_THROWS_WITH_AS(open(), doctest::Contains("gpu1: the driver supports CUDA 12.4"), Error);
}

}  // namespace tandem
