#include "runtime/executor.h"

#include <doctest/doctest.h>
#include <sched.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <random>
#include <string>

#include "kernels/kernel_set.h"
#include "tuner/legal_plans.h"

namespace tandem {
namespace {

const std::string kData = std::string(TANDEM_SOURCE_DIR) + "/tests/data/";

struct Golden {
  std::string model;
  bool all_positions;
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  double other_engine_error;
};

std::vector<float> read_floats(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// The goldens whose files are in tests/data.
std::vector<Golden> goldens() {
  std::vector<Golden> found;
  for (const YAML::Node& entry : YAML::LoadFile(kData + "goldens.yaml")) {
    Golden golden{entry["model"].as<std::string>(), entry["positions"].as<std::string>() == "all",
                  entry["tokens"].as<std::vector<int32_t>>(),
                  read_floats(kData + entry["logits"].as<std::string>()),
                  entry["other_engine_error"].as<double>()};
    if (std::ifstream(kData + golden.model).good()) found.push_back(std::move(golden));
  }
  return found;
}

double relative_error(std::span<const float> actual, std::span<const float> expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / norm);
}

/// The cores this process may use, in turn, one per unit.
std::vector<Unit> make_units(int count, const std::string& isa) {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(static_cast<size_t>(core), &set)) cores.push_back(core);
  std::vector<Unit> units;
  for (int i = 0; i < count; ++i)
    units.push_back({.name = "cpu" + std::to_string(i),
                     .kind = UnitKind::kCpu,
                     .cores = {cores[static_cast<size_t>(i) % cores.size()]},
                     .isa = isa,
                     .memory = "dram0"});
  return units;
}

std::vector<std::string> names(const std::vector<Unit>& units) {
  std::vector<std::string> result;
  for (const Unit& unit : units) result.push_back(unit.name);
  return result;
}

/// Logits of every token of a prompt, taken in steps of `width` tokens.
std::vector<float> run_prompt(Executor& executor, const std::vector<int32_t>& tokens,
                              int64_t width) {
  executor.set_context(0);
  std::vector<float> logits;
  const auto size = static_cast<int64_t>(tokens.size());
  for (int64_t at = 0; at < size; at += width) {
    const int64_t count = std::min(width, size - at);
    executor.run({.tokens = count, .context = at, .logits_rows = count, .parents = {}},
                 std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(count)));
    logits.insert(logits.end(), executor.logits().begin(), executor.logits().end());
  }
  return logits;
}

const ExecutorOptions kSmall{.max_context = 512,
                             .max_tokens = 512,
                             .max_logits_rows = 512,
                             .release_source = true,
                             .resident_all = true,
                             .progress = {}};

Plan with_f32_kv(Plan plan) {
  plan.kv_dtype = DType::kF32;
  return plan;
}

/// The tail of `logits` that a golden holds (the last 4 rows of a long prompt).
std::span<const float> compared_rows(const std::vector<float>& logits, const Golden& golden) {
  return std::span(logits).last(golden.logits.size());
}

double tolerance(const Golden& golden) { return std::max(1.5 * golden.other_engine_error, 5e-6); }

}  // namespace

TEST_CASE("one unit reproduces every golden with every instruction set") {
  for (const Golden& golden : goldens())
    for (const KernelSet* set : kernel_sets()) {
      const Model model = open_gguf(kData + golden.model);
      const std::vector<Unit> units = make_units(1, std::string(set->name));
      Executor executor(model, with_f32_kv(single_unit_plan(model.spec, names(units), 0)), units,
                        kSmall);
      const std::vector<float> logits = run_prompt(executor, golden.tokens, 512);
      CAPTURE(golden.model);
      CAPTURE(set->name);
      CHECK(relative_error(compared_rows(logits, golden), golden.logits) < tolerance(golden));
    }
}

TEST_CASE("random legal plans change time, never results") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  for (const Golden& golden : goldens()) {
    const Model model = open_gguf(kData + golden.model);
    const std::string isa(kernel_sets()[random() % kernel_sets().size()]->name);
    CAPTURE(golden.model);
    CAPTURE(isa);
    CAPTURE(seed);
    const std::vector<Unit> alone = make_units(1, isa);
    Executor one(model, with_f32_kv(single_unit_plan(model.spec, names(alone), 0)), alone, kSmall);
    const std::vector<float> expected = run_prompt(one, golden.tokens, 512);
    for (const int count : {2, 3}) {
      const std::vector<Unit> units = make_units(count, isa);
      Executor executor(model, with_f32_kv(even_plan(model.spec, names(units))), units, kSmall);
      for (int round = 0; round < 4; ++round) {
        const bool positions = round % 2 == 1;
        const Plan plan = random_plan(model.spec, names(units), random,
                                      {.positions = positions, .max_context = 300});
        executor.set_plan(with_f32_kv(plan));
        const int64_t width = round < 2 ? 512 : 1 + static_cast<int64_t>(random() % 16);
        const std::vector<float> logits = run_prompt(executor, golden.tokens, width);
        CHECK(relative_error(compared_rows(logits, golden), golden.logits) < tolerance(golden));
        if (!positions) CHECK(logits == expected);
      }
    }
  }
}

}  // namespace tandem
