// Columns as shares of an op: the text that a plan file shows for the integer ranges of a split.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "sim/plan.h"

namespace tandem {

/// The split that split_columns makes of one share per unit, empty ranges left out. Or, with two
/// homes, of a resident and a streamed share per unit: entry kHomes * unit + home.
LinearSplit split_by_shares(int64_t n, std::span<const double> shares, int64_t align,
                            size_t num_homes = 1);

/// One decimal per unit, or per unit and home ("0.75", "0" where it has no columns), with as few
/// digits as make split_by_shares give exactly `split` of [0, n) again. The split must be one that
/// split_by_shares can give: units ascending, each home once, cut on `align`.
std::vector<std::string> shares_of(const LinearSplit& split, int64_t n, int64_t align,
                                   size_t num_units, size_t num_homes = 1);

/// Columns of qkv such that every head is computed by the unit that attends its new tokens.
LinearSplit qkv_of_heads(const ModelSpec& model, const std::vector<AttentionPart>& attention);

/// One share per unit, or per unit and home, for every op, the same in all layers and phases.
struct OpShares {
  std::vector<double> heads, out, gate_up, down, lm_head;
};
/// `a`, moved a part of the way to `b`.
OpShares blend(const OpShares& a, const OpShares& b, double towards_b);
/// Whole kv heads, columns of qkv with them: streamed heads are those whose qkv is. The embedding
/// is unit 0's.
Plan plan_by_shares(const ModelSpec& model, const std::vector<std::string>& units,
                    const OpShares& shares);

}  // namespace tandem
