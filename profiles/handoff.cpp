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
    for (int i = 0; i < round_trips; ++i) {
      if (side == 0) there.raise();
      while (!(side == 0 ? back : there).take()) relax(yield);
      if (side == 1) back.raise();
    }
    if (side == 0) seconds = steady_now_s() - start_s;
  });
  return seconds / (2.0 * round_trips);
}

}  // namespace tandem
