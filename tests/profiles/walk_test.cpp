#include "profiles/walk.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem {
namespace {

TEST_CASE("probes of several sizes read nothing twice until memory ends") {
  Walk walk;
  constexpr int64_t kAll = 100;
  std::vector<int> reads(kAll);
  for (const int64_t size : {1, 20, 4, 50, 16}) {
    const int64_t begin = walk.next(size, kAll);
    REQUIRE(begin >= 0);
    REQUIRE(begin + size <= kAll);
    for (int64_t i = begin; i < begin + size; ++i) CHECK(++reads[static_cast<size_t>(i)] == 1);
  }
  CHECK(walk.next(16, kAll) == 0);
  CHECK(walk.next(kAll, kAll) == 0);
  CHECK(walk.next(1, kAll) == 0);
}

TEST_CASE("a walk begins where it is told") { CHECK(Walk(7).next(3, 10) == 7); }

}  // namespace
}  // namespace tandem
