#include "tuner/layer_search.h"

#include <array>

#include "tuner/shares.h"

namespace tandem {
namespace {

/// What follows attention in a layer.
constexpr std::array<Stage, 3> kColumnStages{Stage::kOut, Stage::kGateUp, Stage::kDown};

/// Sets of units (by index in unit_sets) for the stages behind attention, and what the layer costs
/// but for attention.
struct Path {
  double seconds = kImpossible;
  std::array<size_t, 3> sets{};
};

/// The column stages of a layer in one kind of step: the best split of each for every set of units.
class ColumnStages {
 public:
  ColumnStages(StagePricer& pricer, const std::vector<UnitSet>& sets)
      : cost_(pricer.cost()), sets_(sets) {
    for (size_t stage = 0; stage < kColumnStages.size(); ++stage)
      for (const UnitSet& units : sets)
        choices_[stage].push_back(best_linear(pricer, kColumnStages[stage], units));
  }

  /// The cheapest way from attention on one set back to the next layer's on the same: dynamic
  /// programming over stages (Viterbi), the hand-offs being the transitions.
  Path best_path(size_t attention) const {
    std::vector<Path> paths(sets_.size());
    paths[attention].seconds = 0;
    for (size_t stage = 0; stage < kColumnStages.size(); ++stage) paths = extend(paths, stage);
    Path best;
    for (size_t last = 0; last < paths.size(); ++last) {
      paths[last].seconds += exchange_s(cost_, sets_[last], sets_[attention]);
      if (paths[last].seconds < best.seconds) best = paths[last];
    }
    return best;
  }

  LayerPlan plan(const Path& path, std::vector<AttentionPart> attention,
                 const ModelSpec& model) const {
    const auto split = [&](size_t stage) { return choices_[stage][path.sets[stage]].split; };
    LinearSplit qkv = qkv_of_heads(model, attention);
    return {.layers = {},
            .qkv = std::move(qkv),
            .out = split(0),
            .gate_up = split(1),
            .down = split(2),
            .attention = std::move(attention)};
  }

 private:
  std::vector<Path> extend(const std::vector<Path>& paths, size_t stage) const {
    std::vector<Path> longer(sets_.size());
    for (size_t to = 0; to < sets_.size(); ++to)
      for (size_t from = 0; from < sets_.size(); ++from) {
        const double seconds = paths[from].seconds + exchange_s(cost_, sets_[from], sets_[to]) +
                               choices_[stage][to].seconds;
        if (seconds >= longer[to].seconds) continue;
        longer[to] = paths[from];
        longer[to].seconds = seconds;
        longer[to].sets[stage] = to;
      }
    return longer;
  }

  const CostModel& cost_;
  const std::vector<UnitSet>& sets_;
  std::array<std::vector<LinearChoice>, 3> choices_;  ///< [stage][set]
};

}  // namespace

LayerChoice choose_layer(StagePricer& decode, StagePricer* prefill) {
  const std::vector<UnitSet> sets = unit_sets(decode.num_units());
  const ColumnStages decode_stages(decode, sets);
  // Without a prefill both phases are the same, and the price counts one more decode step.
  const ColumnStages prefill_stages = prefill ? ColumnStages(*prefill, sets) : decode_stages;
  LayerChoice best;
  double best_s = kImpossible;
  for (size_t set = 0; set < sets.size(); ++set) {
    const AttentionChoice attention =
        best_attention(decode, prefill, kPlannedDecodeSteps, sets[set]);
    const Path decode_path = decode_stages.best_path(set);
    const Path prefill_path = prefill_stages.best_path(set);
    const double seconds = kPlannedDecodeSteps * (attention.decode_s + decode_path.seconds) +
                           attention.prefill_s + prefill_path.seconds;
    if (seconds >= best_s) continue;
    best_s = seconds;
    best = {decode_stages.plan(decode_path, attention.parts, decode.model()),
            prefill_stages.plan(prefill_path, attention.parts, decode.model()),
            sets[decode_path.sets.back()]};
  }
  return best;
}

LinearSplit choose_lm_head(StagePricer& decode, const UnitSet& before) {
  LinearChoice best{kImpossible, {}};
  for (const UnitSet& units : unit_sets(decode.num_units())) {
    LinearChoice choice = best_linear(decode, Stage::kLmHead, units);
    // The first of the units samples and waits for the others.
    choice.seconds += exchange_s(decode.cost(), before, units) +
                      exchange_s(decode.cost(), units, {units.front()});
    if (choice.seconds < best.seconds) best = std::move(choice);
  }
  return best.split;
}

}  // namespace tandem
