// Scores whole plans as the simulator sees them, and says which of them fit in memory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tuner/search.h"

namespace tandem {

struct ScoredPlan {
  Candidate candidate;
  Plan plan;
};

/// Seconds of the request that plans are compared by: the prompt and kPlannedDecodeSteps decode
/// steps.
double request_s(const Candidate& candidate);

class Scorer {
 public:
  /// All outlive the scorer.
  Scorer(const ModelSpec& model, const MachineProfile& machine, const SearchOptions& options)
      : model_(model), machine_(machine), options_(options) {}

  /// The plan with its header (model, machine, workload) filled in.
  ScoredPlan score(const std::string& name, Plan plan) const;
  /// Every unit keeps its budget, and all of them together the memories they lie in.
  bool fits(const Plan& plan) const;
  /// What every unit of the plan holds.
  std::vector<MemoryUse> memory(const Plan& plan) const;
  /// Of the unit with the embedding, the bytes of its table in the unit's own memory (see
  /// runtime/memory_needs.h).
  int64_t embedding_bytes(const Plan& plan) const;
  /// "cpu0 needs 2.1 GiB of 2.0 GiB, ...": need and budget of every unit.
  std::string memory_table(const Plan& plan) const;
  /// Rates with their intervals, and the gap to the bound.
  Prediction predict(const Plan& plan, double lower_bound_s) const;
  /// What in the prediction was not measured.
  std::vector<std::string> warnings(const Plan& plan) const;

 private:
  Plan with_header(Plan plan) const;

  const ModelSpec& model_;
  const MachineProfile& machine_;
  const SearchOptions& options_;
};

}  // namespace tandem
