#include "tuner/legal_plans.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tuner/plan_yaml.h"
#include "tuner/shares.h"

namespace tandem {
namespace {

/// Keys and values of some heads and positions, and the unit that holds them.
struct HeldPositions {
  int unit = 0;
  Range kv_heads;
  Range positions;
};

/// [unit] first of its columns that it streams; those before are resident.
using Borders = std::vector<int64_t>;

/// Layers with the same homes in all phases, since keys, values and weights do not move.
struct LayerGroup {
  Range layers;
  std::vector<HeldPositions> homes;
  Borders qkv, out, gate_up, down;
};

class RandomPlan {
 public:
  RandomPlan(const ModelSpec& model, const std::vector<std::string>& units, std::mt19937_64& random,
             const RandomPlanOptions& options)
      : model_(model), num_units_(units.size()), random_(random), options_(options) {
    plan_ = single_unit_plan(model, units, 0);
  }

  Plan make() && {
    plan_.embedding = static_cast<int>(below(std::ssize(plan_.units)));
    const std::vector<LayerGroup> groups = layer_groups();
    std::vector<Phase> phases = step_ranges();
    const Borders lm_head = borders(model_.vocab_size, kColumnAlign);
    for (Phase& phase : phases) {
      fill(phase, groups);
      phase.lm_head = with_homes(phase.lm_head, lm_head);
    }
    plan_.phases = std::move(phases);
    return std::move(plan_);
  }

 private:
  /// Uniform in [0, n), the same with every standard library.
  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  bool one_in(int64_t n) { return below(n) == 0; }
  int any_unit() { return static_cast<int>(below(static_cast<int64_t>(num_units_))); }

  /// One share per unit, a third of them 0.
  std::vector<double> shares() {
    std::vector<double> weights(num_units_);
    for (double& weight : weights) weight = one_in(3) ? 0.0 : static_cast<double>(1 + below(1000));
    double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    if (sum == 0) sum = weights[static_cast<size_t>(any_unit())] = 1;
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  LinearSplit split(int64_t columns, int64_t align) {
    if (!options_.columns) return {{0, {0, columns}}};
    return split_by_shares(columns, shares(), align);
  }

  /// Where each unit that streams begins to: at its first column, somewhere, or nowhere.
  Borders borders(int64_t columns, int64_t align) {
    Borders borders(num_units_, kOpenEnd);
    for (size_t unit = 0; unit < num_units_; ++unit)
      if (options_.can_stream >> unit & 1)
        borders[unit] = below(4) * div_up(div_up(columns, align), 4) * align;
    return borders;
  }

  static LinearSplit with_homes(const LinearSplit& split, const Borders& borders) {
    LinearSplit cut;
    for (const ColumnShare& share : split) {
      const int64_t border = std::clamp(borders[static_cast<size_t>(share.unit)],
                                        share.columns.begin, share.columns.end);
      if (share.columns.begin < border)
        cut.push_back({share.unit, {share.columns.begin, border}, Home::kResident});
      if (border < share.columns.end)
        cut.push_back({share.unit, {border, share.columns.end}, Home::kStreamed});
    }
    return cut;
  }

  /// [0, end) in one to three pieces.
  std::vector<Range> pieces(int64_t end) {
    std::vector<int64_t> cuts = {0, end};
    for (int64_t i = below(3); i > 0; --i) cuts.push_back(below(end));
    std::sort(cuts.begin(), cuts.end());
    std::vector<Range> ranges;
    for (size_t i = 0; i + 1 < cuts.size(); ++i)
      if (cuts[i] < cuts[i + 1]) ranges.push_back({cuts[i], cuts[i + 1]});
    return ranges;
  }

  std::vector<LayerGroup> layer_groups() {
    std::vector<Range> layers = {{0, model_.num_layers}};
    if (options_.layer_groups) layers = pieces(model_.num_layers);
    std::vector<LayerGroup> groups;
    for (const Range range : layers)
      groups.push_back({.layers = range,
                        .homes = homes(),
                        .qkv = borders(qkv_columns(model_), model_.qkv_columns_per_kv_head()),
                        .out = borders(model_.hidden_size, kColumnAlign),
                        .gate_up = borders(model_.intermediate_size, kColumnAlign),
                        .down = borders(model_.hidden_size, kColumnAlign)});
    return groups;
  }

  /// One run of heads per unit, the units in any order; some runs cut by position.
  std::vector<HeldPositions> homes() {
    std::vector<HeldPositions> homes;
    if (!options_.heads) {
      add_homes(homes, {0, {0, model_.num_kv_heads}, kAll});
      return homes;
    }
    std::vector<int> order(num_units_);
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
    const std::vector<Range> runs = split_columns(model_.num_kv_heads, shares(), 1);
    for (size_t i = 0; i < runs.size(); ++i)
      if (!runs[i].empty()) add_homes(homes, {order[i], runs[i], kAll});
    return homes;
  }

  /// A run of heads whole, or its first heads cut by position and the rest whole.
  void add_homes(std::vector<HeldPositions>& homes, HeldPositions run) {
    const int64_t cuts = (options_.max_context - 1) / kAttentionChunk;
    if (options_.positions && cuts > 0 && !one_in(3)) {
      const Range cut_heads{run.kv_heads.begin,
                            run.kv_heads.begin + 1 + below(run.kv_heads.size())};
      const int64_t position = (1 + below(cuts)) * kAttentionChunk;
      homes.push_back({any_unit(), cut_heads, {0, position}});
      homes.push_back({any_unit(), cut_heads, {position, kOpenEnd}});
      run.kv_heads.begin = cut_heads.end;
    }
    if (!run.kv_heads.empty()) homes.push_back(run);
  }

  /// The steps that each phase is for.
  std::vector<Phase> step_ranges() {
    if (!options_.phases || one_in(3)) return {Phase{}};
    if (one_in(3)) {
      const int64_t context = 1 + below(options_.max_context);
      return {Phase{.context = {0, context}, .layers = {}, .lm_head = {}},
              Phase{.context = {context, kOpenEnd}, .layers = {}, .lm_head = {}}};
    }
    const int64_t tokens = 2 + below(31);
    return {Phase{.tokens = {1, tokens}, .layers = {}, .lm_head = {}},
            Phase{.tokens = {tokens, kOpenEnd}, .layers = {}, .lm_head = {}}};
  }

  void fill(Phase& phase, const std::vector<LayerGroup>& groups) {
    for (const LayerGroup& group : groups) {
      LayerPlan& layer = phase.layers.emplace_back();
      layer.layers = group.layers;
      for (const HeldPositions& home : group.homes) add_parts(layer.attention, home);
      // A file can say which heads are streamed only where qkv has shares of its own.
      const bool follows_heads =
          (!options_.columns || !one_in(4)) && (options_.can_stream == 0 || !options_.columns);
      layer.qkv = follows_heads ? qkv_of_heads(model_, layer.attention)
                                : split(qkv_columns(model_), model_.qkv_columns_per_kv_head());
      if (!follows_heads) layer.qkv = with_homes(layer.qkv, group.qkv);
      layer.out = with_homes(split(model_.hidden_size, kColumnAlign), group.out);
      layer.gate_up = with_homes(split(model_.intermediate_size, kColumnAlign), group.gate_up);
      layer.down = with_homes(split(model_.hidden_size, kColumnAlign), group.down);
    }
    phase.lm_head = split(model_.vocab_size, kColumnAlign);
  }

  /// The part that attends a home; new tokens go to the open end, or to a part of their own.
  void add_parts(std::vector<AttentionPart>& parts, const HeldPositions& home) {
    const bool open = home.positions.end == kOpenEnd;
    const bool apart = open && options_.positions && one_in(4);
    parts.push_back({home.unit, home.kv_heads, home.positions, open && !apart});
    if (apart) parts.push_back({any_unit(), home.kv_heads, {0, 0}, true});
  }

  const ModelSpec& model_;
  const size_t num_units_;
  std::mt19937_64& random_;
  const RandomPlanOptions& options_;
  Plan plan_;
};

}  // namespace

Plan even_plan(const ModelSpec& model, const std::vector<std::string>& units) {
  const std::vector<double> even(units.size(), 1.0 / static_cast<double>(units.size()));
  return plan_by_shares(model, units, {even, even, even, even, even});
}

Plan random_plan(const ModelSpec& model, const std::vector<std::string>& units,
                 std::mt19937_64& random, const RandomPlanOptions& options) {
  return RandomPlan(model, units, random, options).make();
}

}  // namespace tandem
