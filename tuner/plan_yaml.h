// plan.yaml: the only place where shares become columns and columns become shares.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "sim/model_spec.h"
#include "sim/plan.h"

namespace tandem {

/// Cuts [0, n) by shares (>= 0, summing to 1 within 1e-6) on multiples of align: largest remainder,
/// ties to the earlier unit. The only rounding in the program. Result ranges are ascending and
/// cover [0, n); empty ones are kept.
std::vector<Range> split_columns(int64_t n, std::span<const double> shares, int64_t align);

/// Reads and checks a plan; every Error says `plan.yaml:LINE: ...`.
Plan read_plan(const std::string& path, const ModelSpec& model);
/// The model that a plan names, without needing the model (model_source, workload, dtype).
Plan read_plan_header(const std::string& path);
/// Text of a plan. What is written reads back to exactly the same plan.
std::string plan_text(const Plan& plan, const ModelSpec& model);
/// Writes to a temporary name and renames.
void write_plan(const Plan& plan, const ModelSpec& model, const std::string& path);

}  // namespace tandem
