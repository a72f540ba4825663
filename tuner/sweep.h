// The plans and steps that `tandem compare` puts side by side. It times nothing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sim/plan.h"
#include "tuner/trial.h"

namespace tandem {

struct NamedPlan {
  std::string label;
  Plan plan;
};

/// Linears and kv heads by shares, the first unit's from 0 to 100 % in steps of 5 %; the other
/// units have the rest in equal parts. Error for fewer than two units.
std::vector<NamedPlan> column_sweep(const ModelSpec& model, const std::vector<std::string>& units);

/// `base` with 0, 1, ... all kv heads on the first unit, the rest on the others in equal parts.
/// Error for fewer than two units.
std::vector<NamedPlan> head_sweep(const ModelSpec& model, const Plan& base);

/// Random legal plans: column and head splits alone, and with positions cut, in turns. Units whose
/// bit of `can_stream` is set may stream columns.
std::vector<NamedPlan> random_plans(const ModelSpec& model, const std::vector<std::string>& units,
                                    int64_t count, uint64_t seed, int64_t max_context,
                                    uint64_t can_stream = 0);

/// What is timed of every plan.
struct TrialShape {
  TrialKind kind = TrialKind::kDecode;
  int64_t tokens = 1;
  int64_t context = 0;
  friend bool operator==(const TrialShape&, const TrialShape&) = default;
};

/// Decode of `tokens` at depths 0, 128, 256, ... 4096, as far as the model goes.
std::vector<TrialShape> context_sweep(const ModelSpec& model, int64_t tokens);
/// Steps of 1, 2, 4, ... 64 tokens at `context`.
std::vector<TrialShape> token_sweep(const ModelSpec& model, int64_t context);

/// Every plan with every shape. The trials refer to `plans`.
std::vector<Trial> make_trials(std::span<const NamedPlan> plans,
                               const std::vector<TrialShape>& shapes);

}  // namespace tandem
