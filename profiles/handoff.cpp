#include "profiles/handoff.h"

#include "kernels/flag.h"
#include "profiles/pinned.h"

namespace tandem {

double handoff_s(int core_a, int core_b, int round_trips) {
  Flag there, back;
  const bool yield = core_a == core_b;
  double seconds = 0;
  run_pinned({core_a, core_b}, [&](size_t side) {
    const double start_s = steady_now_s();
    for (uint32_t i = 1; i <= static_cast<uint32_t>(round_trips); ++i) {
      if (side == 0) there.raise(i);
      while (!(side == 0 ? back : there).raised(i)) relax(yield);
      if (side == 1) back.raise(i);
    }
    if (side == 0) seconds = steady_now_s() - start_s;
  });
  return seconds / (2.0 * round_trips);
}

}  // namespace tandem
