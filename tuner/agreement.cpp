#include "tuner/agreement.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "tuner/token_input.h"

namespace tandem {
namespace {

constexpr uint64_t kInputSeed = 1;

/// Relative error that rounding makes in the logits of a model of one layer: other_engine_error of
/// the golden models, the tolerance of the goldens for F32.
constexpr double kRoundingQ8 = 1.3e-2;
constexpr double kRoundingBF16 = 3.8e-3;
constexpr double kRoundingF16 = 7e-4;
constexpr double kRoundingF32 = 5e-6;

double kv_rounding(DType kv_dtype) {
  switch (kv_dtype) {
    case DType::kF32:
      return kRoundingF32;
    case DType::kBF16:
      return kRoundingBF16;
    case DType::kQ8_0:
      return kRoundingQ8;
    default:
      return kRoundingF16;
  }
}

/// Kernel sets of the units that have columns.
std::set<std::string> kernel_sets_of(const Plan& plan, const std::vector<Unit>& units) {
  std::set<std::string> isas;
  const auto add = [&](const LinearSplit& split) {
    for (const ColumnShare& share : split) isas.insert(units[static_cast<size_t>(share.unit)].isa);
  };
  for (const Phase& phase : plan.phases) {
    for (const LayerPlan& layer : phase.layers)
      for (const LinearSplit* split : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
        add(*split);
    add(phase.lm_head);
  }
  return isas;
}

bool cuts_positions(const Plan& plan) {
  for (const Phase& phase : plan.phases)
    for (const LayerPlan& layer : phase.layers)
      for (const AttentionPart& part : layer.attention)
        if (part.context != kAll || !part.new_tokens) return true;
  return false;
}

/// Logits of the input under the executor's plan.
std::vector<float> logits_of(Executor& executor, const ModelSpec& model,
                             const AgreementInput& input) {
  std::vector<float> all;
  const auto run = [&](const Step& step, std::span<const int32_t> tokens) {
    executor.run(step, tokens);
    all.insert(all.end(), executor.logits().begin(), executor.logits().end());
  };
  const auto prompt = random_tokens(input.prompt, model.vocab_size, kInputSeed);
  executor.set_context(0);
  run({.tokens = input.prompt, .context = 0, .parents = {}}, prompt);
  executor.set_context(0);
  executor.set_context(input.context, kInputSeed);
  const auto tokens = random_tokens(input.steps, model.vocab_size, kInputSeed);
  for (int64_t i = 0; i < input.steps; ++i)
    run({.tokens = 1, .context = input.context + i, .parents = {}},
        std::span(tokens).subspan(static_cast<size_t>(i), 1));
  return all;
}

}  // namespace

bool keeps_every_bit(const Plan& plan, const std::vector<Unit>& units) {
  std::set<std::string> isas = kernel_sets_of(plan, units);
  isas.insert(units.front().isa);  // of the reference
  return isas.size() == 1 && !cuts_positions(plan);
}

double rounding_tolerance(const ModelSpec& model, DType kv_dtype) {
  double per_layer = kv_rounding(kv_dtype);
  for (const LayerDTypes& layer : model.layers)
    for (const DType dtype :
         {layer.q, layer.k, layer.v, layer.out, layer.gate, layer.up, layer.down}) {
      if (dtype == DType::kBF16) per_layer = std::max(per_layer, kRoundingBF16);
      if (info(dtype).block_size > 1) per_layer = std::max(per_layer, kRoundingQ8);
    }
  return std::sqrt(2.0 * static_cast<double>(model.num_layers)) * per_layer;
}

double relative_l2(std::span<const float> a, std::span<const float> b) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    difference += d * d;
    norm += static_cast<double>(b[i]) * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

Agreement check_agreement(Executor& executor, const ModelSpec& model, const Plan& plan,
                          const Plan& alone, const std::vector<Unit>& units,
                          const AgreementInput& input) {
  executor.set_plan(alone);
  const std::vector<float> reference = logits_of(executor, model, input);
  executor.set_plan(plan);
  const std::vector<float> logits = logits_of(executor, model, input);
  Agreement agreement;
  agreement.rows = std::ssize(logits) / model.vocab_size;
  agreement.identical =
      std::memcmp(logits.data(), reference.data(), logits.size() * sizeof(float)) == 0;
  agreement.relative_error = relative_l2(logits, reference);
  agreement.must_be_identical = keeps_every_bit(plan, units);
  if (!agreement.must_be_identical) agreement.tolerance = rounding_tolerance(model, plan.kv_dtype);
  return agreement;
}

}  // namespace tandem
