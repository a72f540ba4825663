#include "kernels/cpu_workspace.h"

#include <doctest/doctest.h>

#include "kernels/panels.h"
#include "test_device.h"

using namespace tandem;

TEST_CASE("a unit's scratch is what is counted for its limits") {
  for (const int workers : {1, 3})
    for (const DeviceLimits& limits :
         {DeviceLimits{.tokens = 1, .k = 64, .context = 0, .heads = 1, .head_dim = 16},
          DeviceLimits{.tokens = 128, .k = 5632, .context = 1024, .heads = 32, .head_dim = 64},
          DeviceLimits{.tokens = 512, .k = 100, .context = 4097, .heads = 7, .head_dim = 24}}) {
      const TestUnit unit(*kernel_sets().front(), workers);
      unit->reserve(limits);
      CHECK(unit->workspace_bytes() == cpu_workspace(limits).bytes(workers));
    }
}

TEST_CASE("packed bytes are those of whole panels, and every segment begins one") {
  const int64_t panel = panel_bytes(DType::kF32, 64);
  CHECK(packed_bytes(DType::kF32, 64, 100, {16, 100}) == 6 * panel);  // the last has 4 columns
  CHECK(packed_bytes(DType::kF32, 64, 100, {16, 16}) == 0);
  // Heads of 24 columns take two panels each.
  CHECK(packed_bytes(DType::kF32, 64, 24, {24, 96}) == 6 * panel);
  const TestUnit unit(*kernel_sets().front());
  for (const DTypeInfo& dtype : kCommonDTypes)
    for (const Range columns : {Range{0, 96}, Range{24, 72}, Range{72, 96}}) {
      const TestMatrix matrix = make_matrix(dtype.dtype, 96, 64, 1, Values::kRandom, 24);
      CHECK(unit->place(matrix.source(), columns)->bytes ==
            packed_bytes(dtype.dtype, 64, 24, columns));
    }
}
