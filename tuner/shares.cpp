#include "tuner/shares.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <optional>

#include "tuner/plan_yaml.h"

namespace tandem {
namespace {

/// Enough digits to tell one block of the largest matrix from the next.
constexpr int kMostDigits = 12;

/// Decimals of `digits` digits that sum to exactly 1: the last unit with any takes what
/// rounding left over. In units of the last digit; nothing where that is negative.
std::optional<std::vector<int64_t>> round_shares(std::span<const int64_t> blocks, int digits) {
  const int64_t n = std::accumulate(blocks.begin(), blocks.end(), int64_t{0});
  const auto one = static_cast<int64_t>(std::llround(std::pow(10.0, digits)));
  std::vector<int64_t> shares(blocks.size());
  int64_t left = one;
  size_t last = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i] == 0) continue;
    shares[i] = std::llround(static_cast<double>(blocks[i]) / static_cast<double>(n) *
                             static_cast<double>(one));
    left -= shares[i];
    last = i;
  }
  shares[last] += left;
  if (shares[last] < 0) return std::nullopt;
  return shares;
}

std::string decimal(int64_t value, int digits) {
  std::string text = fmt::format("{:0{}}", value, digits + 1);
  text.insert(text.size() - static_cast<size_t>(digits), 1, '.');
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::vector<double> blend(const std::vector<double>& a, const std::vector<double>& b,
                          double towards_b) {
  std::vector<double> blended;
  for (size_t i = 0; i < a.size(); ++i) blended.push_back(a[i] + towards_b * (b[i] - a[i]));
  return blended;
}

/// Blocks of every share by largest remainder; they sum to `blocks`.
std::vector<int64_t> apportion(int64_t blocks, std::span<const double> shares) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<int64_t> counts(shares.size());
  std::vector<int64_t> remainders(shares.size());  // in 1e-9 blocks, so that equal ones tie
  for (size_t i = 0; i < shares.size(); ++i) {
    const double quota = static_cast<double>(blocks) * shares[i] / sum;
    // 0.3 of 10 blocks is 2.9999999999999996 of them in binary; it means 3.
    counts[i] = static_cast<int64_t>(std::floor(quota + 1e-9));
    remainders[i] = std::llround((quota - static_cast<double>(counts[i])) * 1e9);
  }
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  const int64_t left = blocks - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (int64_t i = 0; i < left; ++i) ++counts[order[static_cast<size_t>(i)]];
  return counts;
}

}  // namespace

std::vector<Range> split_columns(int64_t n, std::span<const double> shares, int64_t align) {
  std::vector<Range> ranges;
  int64_t begin = 0;
  int64_t block = 0;
  for (const int64_t count : apportion(div_up(n, align), shares)) {
    block += count;
    const int64_t end = std::min(n, block * align);
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

LinearSplit split_by_shares(int64_t n, std::span<const double> shares, int64_t align,
                            size_t num_homes) {
  const std::vector<Range> ranges = split_columns(n, shares, align);
  LinearSplit split;
  for (size_t i = 0; i < ranges.size(); ++i)
    if (!ranges[i].empty())
      split.push_back(
          {static_cast<int>(i / num_homes), ranges[i], static_cast<Home>(i % num_homes)});
  return split;
}

std::vector<std::string> shares_of(const LinearSplit& split, int64_t n, int64_t align,
                                   size_t num_units, size_t num_homes) {
  LinearSplit wanted = split;
  std::erase_if(wanted, [](const ColumnShare& share) { return share.columns.empty(); });
  // Shares are of blocks, as split_columns deals them: a ragged last block counts as one.
  std::vector<int64_t> blocks(num_units * num_homes);
  for (const ColumnShare& share : wanted)
    blocks[static_cast<size_t>(share.unit) * num_homes + static_cast<size_t>(share.home)] +=
        div_up(share.columns.size(), align);
  for (int digits = 1; digits <= kMostDigits; ++digits) {
    const auto rounded = round_shares(blocks, digits);
    if (!rounded) continue;
    std::vector<std::string> texts;
    std::vector<double> values;
    for (const int64_t share : *rounded) {
      texts.push_back(decimal(share, digits));
      values.push_back(std::stod(texts.back()));
    }
    if (split_by_shares(n, values, align, num_homes) == wanted) return texts;
  }
  assert(!"a split that shares cannot say");
  return {};
}

LinearSplit qkv_of_heads(const ModelSpec& model, const std::vector<AttentionPart>& attention) {
  const int64_t width = model.qkv_columns_per_kv_head();
  LinearSplit split;
  for (int64_t head = 0; head < model.num_kv_heads; ++head) {
    const auto owner = std::find_if(attention.begin(), attention.end(), [&](const auto& part) {
      return part.new_tokens && part.kv_heads.contains(head);
    });
    if (owner == attention.end()) continue;
    const Range columns{head * width, (head + 1) * width};
    if (!split.empty() && split.back().unit == owner->unit)
      split.back().columns.end = columns.end;
    else
      split.push_back({owner->unit, columns});
  }
  return split;
}

OpShares blend(const OpShares& a, const OpShares& b, double towards_b) {
  return {blend(a.heads, b.heads, towards_b), blend(a.out, b.out, towards_b),
          blend(a.gate_up, b.gate_up, towards_b), blend(a.down, b.down, towards_b),
          blend(a.lm_head, b.lm_head, towards_b)};
}

Plan plan_by_shares(const ModelSpec& model, const std::vector<std::string>& units,
                    const OpShares& shares) {
  Plan plan = single_unit_plan(model, units, 0);
  const size_t homes = shares.heads.size() / units.size();
  const int64_t width = model.qkv_columns_per_kv_head();
  LayerPlan& layer = plan.phases.front().layers.front();
  layer.attention.clear();
  layer.qkv.clear();
  for (const ColumnShare& run : split_by_shares(model.num_kv_heads, shares.heads, 1, homes)) {
    layer.qkv.push_back({run.unit, {run.columns.begin * width, run.columns.end * width}, run.home});
    if (!layer.attention.empty() && layer.attention.back().unit == run.unit)
      layer.attention.back().kv_heads.end = run.columns.end;
    else
      layer.attention.push_back({run.unit, run.columns, kAll, true});
  }
  const auto split = [&](int64_t columns, const std::vector<double>& of_op) {
    return split_by_shares(columns, of_op, kColumnAlign, homes);
  };
  layer.out = split(model.hidden_size, shares.out);
  layer.gate_up = split(model.intermediate_size, shares.gate_up);
  layer.down = split(model.hidden_size, shares.down);
  plan.phases.front().lm_head = split(model.vocab_size, shares.lm_head);
  return plan;
}

}  // namespace tandem
