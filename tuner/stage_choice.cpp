#include "tuner/stage_choice.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "tuner/plan_yaml.h"
#include "tuner/shares.h"
#include "tuner/unit_curve.h"

namespace tandem {
namespace {

/// Ends of consecutive runs, one per unit; the last is the number of blocks.
using Cuts = std::vector<int64_t>;

LinearSplit split_at(const Cuts& cuts, const UnitSet& units, int64_t align, int64_t columns) {
  LinearSplit split;
  int64_t begin = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    const int64_t end = std::min(columns, cuts[i] * align);
    split.push_back({units[i], {begin, end}});
    begin = end;
  }
  return split;
}

/// Moves one cut at a time, by half the blocks, then a quarter, ... then one, as long as that pays.
/// `seconds` of the result.
double descend(Cuts& cuts, const std::function<double(const Cuts&)>& price) {
  double best = price(cuts);
  for (int64_t step = std::max<int64_t>(1, cuts.back() / 2); step > 0; step /= 2)
    for (size_t i = 0; i + 1 < cuts.size(); ++i)
      for (const int64_t move : {-step, step}) {
        Cuts moved = cuts;
        moved[i] += move;
        const int64_t begin = i == 0 ? 0 : moved[i - 1];
        if (moved[i] <= begin || moved[i] >= moved[i + 1]) continue;
        const double seconds = price(moved);
        if (seconds >= best) continue;
        best = seconds;
        cuts = moved;
      }
  return best;
}

/// Every unit has at least one block and they sum to `blocks`, near `wanted` (any positive scale).
Cuts cuts_near(const std::vector<double>& wanted, int64_t blocks) {
  const auto units = static_cast<int64_t>(wanted.size());
  const double sum = std::accumulate(wanted.begin(), wanted.end(), 0.0);
  std::vector<double> shares;
  for (const double value : wanted) shares.push_back(value / sum);
  Cuts cuts;
  // One block each is set aside, so that no run is empty.
  for (const Range run : split_columns(blocks - units, shares, 1))
    cuts.push_back(run.end + std::ssize(cuts) + 1);
  return cuts;
}

/// Where the units' times alone are equal; contention then moves the cuts.
Cuts balanced_cuts(StagePricer& pricer, Stage stage, const UnitSet& units, int64_t blocks) {
  std::vector<UnitCurve> curves;
  for (const int unit : units) curves.push_back(unit_curve(pricer, stage, unit));
  const double limit_s = balance(curves, blocks).feasible_s;
  std::vector<double> wanted;
  for (const UnitCurve& curve : curves)
    wanted.push_back(static_cast<double>(curve.most_within(limit_s)));
  return cuts_near(wanted, blocks);
}

class AttentionSearch {
 public:
  AttentionSearch(StagePricer& decode, StagePricer* prefill, double decode_weight)
      : decode_(decode), prefill_(prefill), weight_(decode_weight) {}

  AttentionChoice best(const UnitSet& units) && {
    const int64_t heads = decode_.model().num_kv_heads;
    if (units.size() == 1)
      consider({{units[0], {0, heads}, kAll, true}});
    else if (units.size() == 2)
      consider_two(units[0], units[1], heads);
    else if (heads >= std::ssize(units))
      consider_many(units, heads);
    return best_;
  }

 private:
  /// Price of the placement, which is kept if it is the best so far.
  double consider(const std::vector<AttentionPart>& parts) {
    AttentionChoice choice{decode_.attention_s(parts), prefill_ ? prefill_->attention_s(parts) : 0,
                           parts};
    const double price = weight_ * choice.decode_s + choice.prefill_s;
    if (price < best_price_) {
      best_price_ = price;
      best_ = std::move(choice);
    }
    return price;
  }

  void consider_two(int a, int b, int64_t heads) {
    const Range all{0, heads};
    for (int64_t cut = 1; cut < heads; ++cut) consider(with_rest(a, b, {cut, cut}, heads, {}));
    for (int64_t head = 0; head < heads; ++head)
      for (const auto& parts : cut_head(a, b, {head, head + 1}))
        consider(with_rest(a, b, {head, head + 1}, heads, parts));
    consider(apart(a, b, all));
    consider(apart(b, a, all));
  }

  /// Heads before `cut` whole on a, those behind it on b, `parts` for those within.
  static std::vector<AttentionPart> with_rest(int a, int b, Range cut, int64_t heads,
                                              std::vector<AttentionPart> parts) {
    if (cut.begin > 0) parts.insert(parts.begin(), {a, {0, cut.begin}, kAll, true});
    if (cut.end < heads) parts.push_back({b, {cut.end, heads}, kAll, true});
    return parts;
  }

  /// Context on one unit, new tokens on the other.
  static std::vector<AttentionPart> apart(int context, int fresh, Range heads) {
    return {{context, heads, kAll, false}, {fresh, heads, {0, 0}, true}};
  }

  /// Every way to divide these heads between the two by position.
  std::vector<std::vector<AttentionPart>> cut_head(int a, int b, Range heads) const {
    // More cuts than this move less than a thirty-second of a head.
    constexpr int64_t kMostCuts = 32;
    const int64_t chunks = div_up(decode_.step().context, kAttentionChunk);
    const int64_t step = kAttentionChunk * std::max<int64_t>(1, div_up(chunks, kMostCuts));
    std::vector<std::vector<AttentionPart>> ways = {apart(a, b, heads), apart(b, a, heads)};
    for (int64_t p = step; p < decode_.step().context; p += step)
      for (const auto& [first, second] : {std::pair(a, b), std::pair(b, a)})
        ways.push_back({{first, heads, {0, p}, false}, {second, heads, {p, kOpenEnd}, true}});
    return ways;
  }

  void consider_many(const UnitSet& units, int64_t heads) {
    std::vector<double> speeds;
    for (const int unit : units)
      speeds.push_back(1 / decode_.attention_s({{unit, {0, heads}, kAll, true}}));
    Cuts cuts = cuts_near(speeds, heads);
    descend(cuts, [&](const Cuts& moved) {
      std::vector<AttentionPart> parts;
      for (const ColumnShare& run : split_at(moved, units, 1, heads))
        parts.push_back({run.unit, run.columns, kAll, true});
      return consider(parts);
    });
  }

  StagePricer& decode_;
  StagePricer* prefill_;
  double weight_;
  double best_price_ = kImpossible;
  AttentionChoice best_{kImpossible, 0, {}};
};

}  // namespace

std::vector<UnitSet> unit_sets(int num_units) {
  constexpr int kMostForAllSubsets = 3;
  std::vector<UnitSet> sets;
  for (int unit = 0; unit < num_units; ++unit) sets.push_back({unit});
  UnitSet all(static_cast<size_t>(num_units));
  std::iota(all.begin(), all.end(), 0);
  if (num_units == kMostForAllSubsets) sets.insert(sets.end(), {{0, 1}, {0, 2}, {1, 2}});
  if (num_units > 1) sets.push_back(all);
  return sets;
}

double exchange_s(const CostModel& cost, const UnitSet& from, const UnitSet& to) {
  double slowest = 0;
  for (const int a : from)
    for (const int b : to) slowest = std::max(slowest, cost.handoff_s(a, b));
  return slowest;
}

LinearChoice best_linear(StagePricer& pricer, Stage stage, const UnitSet& units) {
  const int64_t columns = stage_columns(pricer.model(), stage);
  const int64_t align = stage_align(pricer.model(), stage);
  const int64_t blocks = div_up(columns, align);
  LinearChoice best{kImpossible, {}};
  if (blocks < std::ssize(units)) return best;
  const auto price = [&](const Cuts& cuts) {
    LinearSplit split = split_at(cuts, units, align, columns);
    const double seconds = pricer.linear_s(stage, split);
    if (seconds < best.seconds) best = {seconds, std::move(split)};
    return seconds;
  };
  if (units.size() == 1) {
    price({blocks});
  } else if (units.size() == 2) {
    for (int64_t cut = 1; cut < blocks; ++cut) price({cut, blocks});
  } else {
    Cuts cuts = balanced_cuts(pricer, stage, units, blocks);
    descend(cuts, price);
  }
  return best;
}

AttentionChoice best_attention(StagePricer& decode, StagePricer* prefill, double decode_weight,
                               const UnitSet& units) {
  return AttentionSearch(decode, prefill, decode_weight).best(units);
}

}  // namespace tandem
