// Whether what is held is what was counted, unit by unit.
#pragma once

#include <doctest/doctest.h>

#include <vector>

#include "runtime/executor.h"

namespace tandem {

inline void check_equal(const std::vector<MemoryUse>& held, const std::vector<MemoryUse>& needed) {
  REQUIRE(held.size() == needed.size());
  for (size_t unit = 0; unit < held.size(); ++unit) {
    CAPTURE(unit);
    CHECK(held[unit].weights == needed[unit].weights);
    CHECK(held[unit].kv == needed[unit].kv);
    CHECK(held[unit].workspace == needed[unit].workspace);
    CHECK(held[unit].host == needed[unit].host);
  }
}

}  // namespace tandem
