#include "tuner/layer_granular.h"

#include <algorithm>
#include <utility>

#include "tuner/plan_units.h"

namespace tandem {
namespace {

/// Whole layers in runs of a unit each.
struct Run {
  int unit = 0;
  int64_t layers = 0;
};

class LayerGranular {
 public:
  LayerGranular(const ModelSpec& model, const std::vector<std::string>& units, int rest,
                const Scorer& scorer)
      : model_(model), units_(units), rest_(rest), scorer_(scorer) {}

  /// As many layers on each of `limited`, in this order, as fit beside a head on `head`.
  std::optional<ScoredPlan> fill(const std::vector<int>& limited, int head) const {
    std::vector<Run> runs;
    int64_t left = model_.num_layers;
    for (const int unit : limited) {
      runs.push_back({unit, 0});
      int64_t fit = -1, misfit = left + 1;
      while (misfit - fit > 1) {
        const int64_t middle = (fit + misfit) / 2;
        runs.back().layers = middle;
        (scorer_.fits(plan(runs, head)) ? fit : misfit) = middle;
      }
      if (fit < 0) return std::nullopt;
      runs.back().layers = fit;
      left -= fit;
    }
    return scorer_.score("layers", without_idle_units(plan(runs, head)));
  }

 private:
  Plan plan(std::vector<Run> runs, int head) const {
    const auto whole = [&](int unit) {
      return single_unit_plan(model_, units_, unit).phases.front();
    };
    Plan plan = single_unit_plan(model_, units_, rest_);
    Phase& phase = plan.phases.front();
    phase.lm_head = whole(head).lm_head;
    phase.layers.clear();
    runs.push_back({rest_, model_.num_layers});
    int64_t next = 0;
    for (const Run& run : runs) {
      const int64_t end = std::min(next + run.layers, model_.num_layers);
      if (end == next) continue;
      phase.layers.push_back(whole(run.unit).layers.front());
      phase.layers.back().layers = {next, end};
      next = end;
    }
    return plan;
  }

  const ModelSpec& model_;
  const std::vector<std::string>& units_;
  const int rest_;
  const Scorer& scorer_;
};

}  // namespace

std::optional<ScoredPlan> layer_granular(const ModelSpec& model,
                                         const std::vector<std::string>& units,
                                         const SearchOptions& options, int rest,
                                         const Scorer& scorer) {
  std::vector<int> limited;
  for (int unit = 0; unit < static_cast<int>(units.size()); ++unit)
    if (unit != rest && options.budget_bytes.contains(units[static_cast<size_t>(unit)]))
      limited.push_back(unit);
  if (limited.empty()) return std::nullopt;
  const LayerGranular placement(model, units, rest, scorer);
  std::optional<ScoredPlan> best = placement.fill(limited, rest);
  std::optional<ScoredPlan> other = placement.fill(limited, limited.back());
  if (!best || (other && request_s(other->candidate) < request_s(best->candidate)))
    best = std::move(other);
  return best;
}

}  // namespace tandem
