#include "tuner/search.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "kernels/error.h"
#include "sim/residency.h"
#include "tuner/budget_search.h"
#include "tuner/layer_granular.h"
#include "tuner/layer_search.h"
#include "tuner/legal_plans.h"
#include "tuner/plan_units.h"
#include "tuner/search_space.h"
#include "tuner/streamed_search.h"

namespace tandem {
namespace {

/// Dividing a model must pay at least this much: less is within what a prediction can tell.
constexpr double kWorthDividing = 1.01;
constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// Error for a unit the machine lacks.
std::vector<std::string> chosen_units(const MachineProfile& machine, const SearchOptions& options) {
  std::vector<std::string> all;
  for (const UnitProfile& profile : machine.units) all.push_back(profile.unit.name);
  for (const std::string& unit : options.units)
    if (std::find(all.begin(), all.end(), unit) == all.end())
      throw Error(fmt::format("unit {} is not one of machine {}: {}", unit, machine.machine.name,
                              fmt::join(all, ", ")));
  return options.units.empty() ? all : options.units;
}

/// The fastest that fits, or null.
const ScoredPlan* fastest(const std::vector<ScoredPlan>& plans) {
  const ScoredPlan* best = nullptr;
  for (const ScoredPlan& plan : plans)
    if (plan.candidate.fits && (!best || request_s(plan.candidate) < request_s(best->candidate)))
      best = &plan;
  return best;
}

class Search {
 public:
  Search(const ModelSpec& model, const MachineProfile& machine, const SearchOptions& options)
      : model_(model),
        machine_(machine),
        units_(chosen_units(machine, options)),
        options_(options),
        scorer_(model, machine, options),
        base_(scorer_.score("even", even_plan(model, units_))) {}

  SearchResult run() {
    score_singles();
    const std::vector<double> bytes = decode_bytes(model_, base_.plan);
    const int memories = CostModel(model_, machine_, base_.plan).num_memories();
    for (const ResidentCase& residents :
         resident_cases(std::accumulate(bytes.begin(), bytes.end(), 0.0),
                        resident_limit_bytes(machine_), memories))
      explore(residents);
    if (planned_) divided_ = {std::move(*planned_), base_};
    if (budget_binds_) layers_ = layer_granular(model_, units_, options_, rest_unit(), scorer_);
    return result();
  }

 private:
  void score_singles() {
    for (const std::string& unit : units_)
      // A plan of its own, so that no idle unit is driven beside it.
      singles_.push_back(scorer_.score(unit + " alone", single_unit_plan(model_, {unit}, 0)));
  }

  /// What is fastest depends on what stays in cache, and that on the plan: every case is searched
  /// as if it were so, and the plans found are scored as it then is.
  void explore(const ResidentCase& residents) {
    const CostModel cost(model_, machine_, base_.plan, residents.memories);
    const SearchSpace space{model_, units_, options_, cost};
    const StepRelaxation relaxed = relax_decode(space);
    MemoryLimits limits = limits_of(residents, cost, relaxed);
    const uint64_t streaming = units_that_may_stream(space);
    StepRelaxation resident = relaxed;  // all that is computed is held
    std::fill(resident.stream_per_s.begin(), resident.stream_per_s.end(), 0.0);
    const Dual dual = limited(limits) ? best_dual(resident, limits.bytes)
                                      : Dual{floor_s(relaxed), std::vector(units_.size(), 0.0)};
    limits.prices = dual.prices;
    double bound_s = dual.bound_s;
    if (streaming != 0)
      bound_s =
          std::min(bound_s, best_dual(relaxed, beside_slots(streaming, limits.bytes)).bound_s);
    lower_bound_s_ = std::min(lower_bound_s_, bound_s);
    const bool divides = units_.size() > 1 || streaming != 0;
    if (divides && may_win(bound_s)) keep_best(space, relaxed, resident, limits);
  }

  /// Limits of plans that stream. Where several units may, those that do not have no slots.
  static std::vector<double> beside_slots(uint64_t streaming, std::vector<double> limit_bytes) {
    if (std::popcount(streaming) == 1)
      limit_bytes[static_cast<size_t>(std::countr_zero(streaming))] -=
          static_cast<double>(kStreamSlots * kStreamSlotBytes);
    return limit_bytes;
  }

  /// Of the units without a budget the one that is fastest alone; the last where all have one.
  int rest_unit() const {
    int rest = -1;
    for (size_t unit = 0; unit < units_.size(); ++unit)
      if (!options_.budget_bytes.contains(units_[unit]) &&
          (rest < 0 || request_s(singles_[unit].candidate) <
                           request_s(singles_[static_cast<size_t>(rest)].candidate)))
        rest = static_cast<int>(unit);
    return rest < 0 ? static_cast<int>(units_.size()) - 1 : rest;
  }

  static bool limited(const MemoryLimits& limits) {
    return std::any_of(limits.bytes.begin(), limits.bytes.end(),
                       [](double bytes) { return std::isfinite(bytes); });
  }

  /// Budgets, and what a plan of this case reads at most, counted as a relaxation does: the last
  /// block of columns as a whole one.
  MemoryLimits limits_of(const ResidentCase& residents, const CostModel& cost,
                         const StepRelaxation& relaxed) const {
    double ragged = 0;
    for (const StageRelaxation& stage : relaxed.stages)
      if (stage_columns(model_, stage.stage) % stage_align(model_, stage.stage) != 0)
        ragged += static_cast<double>(stage.layers) * stage.block_bytes;
    MemoryLimits limits;
    std::vector<int> memory_of;
    for (size_t unit = 0; unit < units_.size(); ++unit) {
      memory_of.push_back(cost.memory_of(static_cast<int>(unit)));
      const auto budget = options_.budget_bytes.find(units_[unit]);
      const bool stays = residents.memories >> memory_of.back() & 1;
      limits.bytes.push_back(std::min(
          stays ? residents.most_bytes + ragged : kNoLimit,
          budget == options_.budget_bytes.end() ? kNoLimit : static_cast<double>(budget->second)));
    }
    limits.hold = [this, residents, memory_of](const Plan& plan) {
      return scorer_.fits(plan) && keeps_in_cache(plan, residents, memory_of);
    };
    return limits;
  }

  /// Whether a plan over some of the units keeps in cache what the case says.
  bool keeps_in_cache(Plan plan, const ResidentCase& residents,
                      const std::vector<int>& memory_of) const {
    if (residents.memories == 0 || residents.most_bytes == kNoLimit) return true;
    plan.workload = options_.workload;
    plan.kv_dtype = options_.kv_dtype;
    const std::vector<double> bytes = decode_bytes(model_, plan);
    std::vector<double> of_memory(units_.size());
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto unit = std::find(units_.begin(), units_.end(), plan.units[i]) - units_.begin();
      of_memory[static_cast<size_t>(memory_of[static_cast<size_t>(unit)])] += bytes[i];
    }
    for (size_t memory = 0; memory < of_memory.size(); ++memory)
      if (residents.memories >> memory & 1 && of_memory[memory] >= residents.most_bytes)
        return false;
    return true;
  }

  /// Whether plans that decode no faster may be better than the best so far.
  bool may_win(double decode_s) const {
    return !planned_ || !planned_->candidate.fits ||
           kPlannedDecodeSteps * decode_s < request_s(planned_->candidate);
  }

  void keep_best(const SearchSpace& space, const StepRelaxation& relaxed,
                 const StepRelaxation& resident, const MemoryLimits& limits) {
    Plan found = without_idle_units(free_plan(space));
    const bool held = limits.hold(found);
    budget_binds_ = budget_binds_ || !scorer_.fits(found);
    keep(scorer_.score("planned", std::move(found)));
    if (held) return;
    if (auto streamed = search_streamed(space, relaxed, limits, scorer_))
      keep(std::move(*streamed));
    LimitedPlan within = search_within_limits(space, resident, limits, scorer_);
    nearest_ = std::move(within.nearest);
    if (within.best) keep(std::move(*within.best));
  }

  void keep(ScoredPlan planned) {
    if (!planned_ || better(planned, *planned_)) planned_ = std::move(planned);
  }

  static bool better(const ScoredPlan& a, const ScoredPlan& b) {
    if (a.candidate.fits != b.candidate.fits) return a.candidate.fits;
    return request_s(a.candidate) < request_s(b.candidate);
  }

  SearchResult result() const {
    const ScoredPlan* single = fastest(singles_);
    const ScoredPlan* divided = fastest(divided_);
    if (!single && !divided)
      throw Error(
          fmt::format("no plan of {} fits: {}; raise the budget, or lower the context", model_.name,
                      scorer_.memory_table(divided_.empty() ? singles_.front().plan : nearest_)));
    const bool divide = divided && (!single || request_s(single->candidate) >
                                                   kWorthDividing * request_s(divided->candidate));
    SearchResult result;
    result.plan = (divide ? divided : single)->plan;
    result.plan.predicted = scorer_.predict(result.plan, lower_bound_s_);
    result.candidates = candidates();
    result.verdict = verdict(single, divided, divide);
    result.warnings = scorer_.warnings(result.plan);
    if (layers_) {
      result.layers = layers_->plan;
      result.layers->predicted = scorer_.predict(layers_->plan, lower_bound_s_);
    }
    return result;
  }

  /// The plan, every single unit, the even split, whole layers.
  std::vector<Candidate> candidates() const {
    std::vector<Candidate> all;
    if (!divided_.empty()) all.push_back(divided_.front().candidate);
    for (const ScoredPlan& single : singles_) all.push_back(single.candidate);
    if (!divided_.empty()) all.push_back(divided_.back().candidate);
    if (layers_) all.push_back(layers_->candidate);
    return all;
  }

  std::string verdict(const ScoredPlan* single, const ScoredPlan* divided, bool divide) const {
    if (!divided)
      return single->candidate.name +
             (units_.size() == 1 ? ": the only unit" : ": no division of the model fits");
    const std::string units = fmt::format("{}", fmt::join(divided->plan.units, "+"));
    if (!single)
      return fmt::format("{}{}: no unit alone has the memory",
                         divided->plan.units.size() > 1 ? "hybrid " : "streaming ", units);
    const double speedup = request_s(single->candidate) / request_s(divided->candidate);
    if (divide) return fmt::format("hybrid {}, {:.2f}x {}", units, speedup, single->candidate.name);
    return fmt::format("{}: the best division of the model is {:.2f}x as fast",
                       single->candidate.name, speedup);
  }

  const ModelSpec& model_;
  const MachineProfile& machine_;
  const std::vector<std::string> units_;
  const SearchOptions& options_;
  const Scorer scorer_;
  const ScoredPlan base_;              ///< the even split
  std::optional<ScoredPlan> planned_;  ///< none for one unit
  std::vector<ScoredPlan> singles_;    ///< [unit]
  std::vector<ScoredPlan> divided_;    ///< the searched plan and the even split; none for one unit
  bool budget_binds_ = false;          ///< what is fastest without budgets does not fit
  std::optional<ScoredPlan> layers_;
  Plan nearest_;
  double lower_bound_s_ = kNoLimit;
};

}  // namespace

SearchResult search(const ModelSpec& model, const MachineProfile& machine,
                    const SearchOptions& options) {
  return Search(model, machine, options).run();
}

}  // namespace tandem
