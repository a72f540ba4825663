#include "tuner/stage_relaxation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem {
namespace {

/// Time to draw `bytes` where all units share one memory; a task alone draws at most `alone_per_s`.
/// 0 where they do not.
double memory_floor_s(const StagePricer& pricer, double bytes, double alone_per_s) {
  const CostModel& cost = pricer.cost();
  for (int unit = 1; unit < pricer.num_units(); ++unit)
    if (cost.memory_of(unit) != cost.memory_of(0)) return 0;
  std::vector<int> units(static_cast<size_t>(pricer.num_units()));
  std::iota(units.begin(), units.end(), 0);
  return bytes / std::max(alone_per_s, most_together_per_s(cost, units));
}

/// Whether a unit draws on the memory that copies over links draw on.
bool reads_host(const StagePricer& pricer, int unit) {
  const CostModel& cost = pricer.cost();
  return cost.memory_of(unit) == cost.memory_of(pricer.num_units());  // of the first link
}

/// One attention task per unit of growing size.
struct AttentionSamples {
  AttentionFloor floor;
  double memory_per_cell = kImpossible;
  double most_per_s = 0;
};

/// Task `whole` cut down to so many cells, reading only cached positions (the fewest bytes for
/// them).
TaskCost price_cells(const StagePricer& pricer, const Task& whole, int unit, double cells) {
  Task task = whole;
  const auto rows =
      static_cast<double>(whole.kv_heads * (pricer.step().context + pricer.step().tokens));
  task.unit = unit;
  task.kv_heads = 1;
  task.positions = cells;
  task.bytes *= cells / rows;
  return pricer.cost().cost(task);
}

AttentionSamples sample_attention(const StagePricer& pricer, const Task& whole, int unit,
                                  double cells) {
  // A part lies between two samples: it takes at least the lower one's time, which loses at most
  // this factor.
  constexpr double kStep = 1.01;
  AttentionSamples samples{{kImpossible, kImpossible}};
  double x = std::min(1.0, cells);
  while (true) {
    const TaskCost cost = price_cells(pricer, whole, unit, x);
    const double next = std::min(cells, x * kStep);
    samples.floor.least_s = std::min(samples.floor.least_s, cost.seconds);
    samples.floor.seconds_per_cell = std::min(samples.floor.seconds_per_cell, cost.seconds / next);
    samples.memory_per_cell = std::min(samples.memory_per_cell, cost.memory_bytes / next);
    if (cost.seconds > 0)
      samples.most_per_s = std::max(samples.most_per_s, cost.memory_bytes / cost.seconds);
    if (x >= cells) return samples;
    x = next;
  }
}

/// Blocks may fall on a unit in several runs: no way to sum them up is cheaper than this.
void close_under_addition(std::vector<double>& seconds) {
  for (size_t n = 2; n < seconds.size(); ++n)
    for (size_t i = 1; i <= n / 2; ++i)
      seconds[n] = std::min(seconds[n], seconds[i] + seconds[n - i]);
}

double cells_within(const AttentionFloor& floor, double limit_s) {
  return limit_s < floor.least_s ? 0 : limit_s / floor.seconds_per_cell;
}

/// Whether the units can do all heads of qkv and all cells within the limit: for every number of
/// heads dealt out so far the most cells that the same units manage beside them.
bool attention_within(const StageRelaxation& stage, double limit_s) {
  const auto heads = static_cast<size_t>(stage.blocks);
  std::vector<double> most(heads + 1, -1);  // -1: so many heads cannot be dealt out
  most[0] = 0;
  for (size_t unit = 0; unit < stage.curves.size(); ++unit) {
    std::vector<double> with_unit(heads + 1, -1);
    const auto own_most =
        static_cast<size_t>(std::max<int64_t>(0, stage.curves[unit].most_within(limit_s)));
    for (size_t before = 0; before <= heads; ++before) {
      if (most[before] < 0) continue;
      for (size_t own = 0; own <= own_most && before + own <= heads; ++own)
        with_unit[before + own] =
            std::max(with_unit[before + own],
                     most[before] + cells_within(stage.attention[unit],
                                                 limit_s - stage.curves[unit].seconds[own]));
    }
    most = std::move(with_unit);
  }
  return most[heads] >= stage.cells;
}

double attention_floor(const StageRelaxation& stage) {
  double low = 0;
  double high =
      stage.curves[0].seconds.back() +
      std::max(stage.attention[0].least_s, stage.attention[0].seconds_per_cell * stage.cells);
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (attention_within(stage, middle) ? high : low) = middle;
  }
  return low;
}

/// `total` dealt out to the cheapest units first, each at most its `most`. Less than `total` where
/// they cannot take it.
std::vector<double> fill(std::span<const double> most, double total,
                         std::span<const double> prices) {
  std::vector<size_t> order(most.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prices[a] < prices[b]; });
  std::vector<double> amounts(most.size());
  for (const size_t unit : order) {
    amounts[unit] = std::min(most[unit], total);
    total -= amounts[unit];
  }
  return amounts;
}

/// What a block and a cell cost on every unit.
struct UnitPrices {
  std::vector<double> block, cell;
};

UnitPrices unit_prices(const StageRelaxation& stage, const BytePrices& prices) {
  UnitPrices of;
  for (size_t unit = 0; unit < prices.held.size(); ++unit) {
    of.block.push_back(prices.held[unit] * stage.block_bytes +
                       prices.host * stage.block_draw[unit]);
    if (!stage.attention.empty())
      of.cell.push_back(prices.held[unit] * stage.cell_bytes + prices.host * stage.cell_draw[unit]);
  }
  return of;
}

Division divide_within(const StageRelaxation& stage, double limit_s, const UnitPrices& prices) {
  std::vector<double> blocks, cells;
  for (const UnitCurve& curve : stage.curves)
    blocks.push_back(static_cast<double>(curve.most_within(limit_s)));
  for (const AttentionFloor& floor : stage.attention) cells.push_back(cells_within(floor, limit_s));
  Division division{fill(blocks, static_cast<double>(stage.blocks), prices.block), {}};
  if (!cells.empty()) division.cells = fill(cells, stage.cells, prices.cell);
  return division;
}

double price_of(const Division& division, const UnitPrices& prices) {
  const auto sum = [](const std::vector<double>& amounts, const std::vector<double>& of) {
    return std::inner_product(amounts.begin(), amounts.end(), of.begin(), 0.0);
  };
  return sum(division.blocks, prices.block) + sum(division.cells, prices.cell);
}

/// Whether a division deals out the whole stage.
bool covers(const StageRelaxation& stage, const Division& division) {
  const auto sum = [](const std::vector<double>& amounts) {
    return std::accumulate(amounts.begin(), amounts.end(), 0.0);
  };
  return sum(division.blocks) >= static_cast<double>(stage.blocks) &&
         (division.cells.empty() || sum(division.cells) >= stage.cells * (1 - 1e-9));
}

/// Time beyond which no unit could take more.
double longest_s(const StageRelaxation& stage) {
  double longest = 0;
  for (size_t unit = 0; unit < stage.curves.size(); ++unit) {
    longest = std::max(longest, stage.curves[unit].seconds.back());
    if (!stage.attention.empty())
      longest = std::max({longest, stage.attention[unit].least_s,
                          stage.attention[unit].seconds_per_cell * stage.cells});
  }
  return longest;
}

}  // namespace

double most_together_per_s(const CostModel& cost, std::span<const int> lanes) {
  constexpr size_t kMostForAllSubsets = 10;
  double most = 0, sum = 0;
  for (const int lane : lanes) sum += cost.capacity_per_s(uint64_t{1} << lane);
  if (lanes.size() > kMostForAllSubsets) return sum;
  for (uint64_t subset = 1; subset < uint64_t{1} << lanes.size(); ++subset) {
    uint64_t mask = 0;
    for (size_t i = 0; i < lanes.size(); ++i)
      if (subset >> i & 1) mask |= uint64_t{1} << lanes[i];
    most = std::max(most, cost.capacity_per_s(mask));
  }
  return most;
}

StageRelaxation relax_columns(StagePricer& pricer, Stage stage, int64_t layers) {
  StageRelaxation relaxed;
  relaxed.stage = stage;
  relaxed.layers = layers;
  double per_block = kImpossible, most_per_s = 0;
  for (int unit = 0; unit < pricer.num_units(); ++unit) {
    relaxed.curves.push_back(unit_curve(pricer, stage, unit));
    // Streamed columns are multiplied piece by piece.
    if (pricer.cost().stream_per_s(unit) > 0) close_under_addition(relaxed.curves.back().seconds);
    per_block = std::min(per_block, relaxed.curves.back().memory_per_block);
    relaxed.block_draw.push_back(reads_host(pricer, unit) ? relaxed.curves.back().memory_per_block
                                                          : 0);
    most_per_s = std::max(most_per_s, relaxed.curves.back().most_per_s);
  }
  relaxed.blocks = std::ssize(relaxed.curves.front().seconds) - 1;
  relaxed.block_bytes = pricer.whole_task(stage).bytes / static_cast<double>(relaxed.blocks);
  const double demand = per_block * static_cast<double>(relaxed.blocks);
  relaxed.floor_s = std::max(balance(relaxed.curves, relaxed.blocks).infeasible_s,
                             memory_floor_s(pricer, demand, most_per_s));
  return relaxed;
}

StageRelaxation relax_attention(StagePricer& pricer, int64_t layers) {
  StageRelaxation relaxed = relax_columns(pricer, Stage::kQkv, layers);
  const Task whole = pricer.whole_task(Stage::kAttention);
  relaxed.cells = static_cast<double>(whole.kv_heads) * whole.positions;
  relaxed.cell_bytes =
      whole.bytes /
      static_cast<double>(whole.kv_heads * (pricer.step().context + pricer.step().tokens));
  relaxed.new_cells = static_cast<double>(whole.kv_heads) *
                      (whole.positions - static_cast<double>(pricer.step().context));
  double per_block = kImpossible, per_cell = kImpossible, most_per_s = 0;
  for (int unit = 0; unit < pricer.num_units(); ++unit) {
    UnitCurve& curve = relaxed.curves[static_cast<size_t>(unit)];
    close_under_addition(curve.seconds);
    const AttentionSamples samples = sample_attention(pricer, whole, unit, relaxed.cells);
    relaxed.attention.push_back(samples.floor);
    relaxed.cell_draw.push_back(reads_host(pricer, unit) ? samples.memory_per_cell : 0);
    per_block = std::min(per_block, curve.memory_per_block);
    per_cell = std::min(per_cell, samples.memory_per_cell);
    most_per_s = std::max({most_per_s, curve.most_per_s, samples.most_per_s});
  }
  const double demand = per_block * static_cast<double>(relaxed.blocks) + per_cell * relaxed.cells;
  relaxed.floor_s = std::max(attention_floor(relaxed), memory_floor_s(pricer, demand, most_per_s));
  return relaxed;
}

PricedStage price_stage(const StageRelaxation& stage, const BytePrices& byte_prices) {
  const UnitPrices prices = unit_prices(stage, byte_prices);
  // Between two limits the time is at least the first and the bytes cost at least what they do at
  // the second.
  constexpr int kSteps = 512;
  const double longest = std::max(stage.floor_s, longest_s(stage));
  const double ratio = std::pow(longest / stage.floor_s, 1.0 / kSteps);
  PricedStage best{kImpossible, {}};
  const double highest =
      prices.cell.empty() ? 0 : *std::max_element(prices.cell.begin(), prices.cell.end());
  const double spared = highest * stage.new_cells;
  double limit = stage.floor_s;
  for (int i = 0; i < kSteps; ++i) {
    const double next = i + 1 == kSteps ? longest : limit * ratio;
    const Division division = divide_within(stage, next, prices);
    const double price = limit + price_of(division, prices) - spared;
    // A limit may be short of the first that is possible by the rounding of the last bit.
    if (covers(stage, division) && price < best.floor_s) best = {price, division};
    limit = next;
  }
  return best;
}

}  // namespace tandem
