#include "tuner/unit_curve.h"

#include <algorithm>
#include <limits>

namespace tandem {

int64_t UnitCurve::most_within(double limit_s) const {
  return std::upper_bound(seconds.begin(), seconds.end(), limit_s) - seconds.begin() - 1;
}

UnitCurve unit_curve(StagePricer& pricer, Stage stage, int unit) {
  const int64_t columns = stage_columns(pricer.model(), stage);
  const int64_t align = stage_align(pricer.model(), stage);
  const int64_t blocks = div_up(columns, align);
  const int64_t missing = blocks * align - columns;  // of the ragged last block
  UnitCurve curve{.seconds = std::vector<double>(static_cast<size_t>(blocks) + 1),
                  .memory_per_block = std::numeric_limits<double>::infinity()};
  for (int64_t block = 1; block <= blocks; ++block) {
    // Whoever has the last block has fewer columns, and that may be this unit.
    const TaskCost cost = pricer.alone(stage, unit, block * align - missing);
    curve.seconds[static_cast<size_t>(block)] = cost.seconds;
    curve.memory_per_block =
        std::min(curve.memory_per_block, cost.memory_bytes / static_cast<double>(block));
    if (cost.seconds > 0)
      curve.most_per_s = std::max(curve.most_per_s, cost.memory_bytes / cost.seconds);
  }
  for (size_t i = curve.seconds.size() - 1; i > 0; --i)
    curve.seconds[i - 1] = std::min(curve.seconds[i - 1], curve.seconds[i]);
  return curve;
}

Balance balance(std::span<const UnitCurve> curves, int64_t blocks) {
  const auto enough = [&](double limit_s) {
    int64_t sum = 0;
    for (const UnitCurve& curve : curves) sum += curve.most_within(limit_s);
    return sum >= blocks;
  };
  Balance found{0, curves.front().seconds.back()};
  // Fifty halvings leave nothing of a double but its rounding.
  for (int i = 0; i < 50; ++i) {
    const double middle = (found.infeasible_s + found.feasible_s) / 2;
    (enough(middle) ? found.feasible_s : found.infeasible_s) = middle;
  }
  return found;
}

}  // namespace tandem
