#include "kernels/team.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <vector>

#include "test_device.h"

using namespace tandem;

namespace {

/// Three workers on one core, so that any of them may be late.
struct Three {
  Three() { team.wake(); }
  ~Three() { team.rest(); }
  KeptAffinity affinity;
  Team team{std::vector<int>(3, affinity.cores(1).front()), true};
};

}  // namespace

TEST_CASE("every item is given out once, to a worker that has begun once") {
  Three three;
  for (const int64_t n : {0, 1, 2, 3, 7, 64, 1000}) {
    for (const int64_t grain : {1, 4, 400, 2000}) {
      CAPTURE(n);
      CAPTURE(grain);
      std::vector<std::atomic<int>> given(static_cast<size_t>(n));
      std::array<std::atomic<int>, 3> begun{};
      std::atomic<int> too_early{0}, too_many{0};
      three.team.for_each(
          n, grain, [&](int worker) { ++begun[static_cast<size_t>(worker)]; },
          [&](int worker, Range items) {
            too_early += begun[static_cast<size_t>(worker)] != 1;
            too_many += items.size() > grain;
            for (int64_t i = items.begin; i < items.end; ++i) ++given[static_cast<size_t>(i)];
          });
      int64_t wrong = 0;
      for (const std::atomic<int>& times : given) wrong += times != 1;
      CHECK(wrong == 0);
      CHECK(too_early == 0);
      CHECK(too_many == 0);
      for (const std::atomic<int>& times : begun) CHECK(times <= 1);
    }
  }
}

TEST_CASE("an owner takes its share in order, in ever smaller pieces, and others from its end") {
  Share share;
  share.reset({10, 110});
  CHECK(share.take(32, true) == Range{10, 42});
  CHECK(share.take(64, true) == Range{42, 102});
  CHECK(share.take(32, false) == Range{103, 110});
  CHECK(share.take(2, true) == Range{102, 103});
  CHECK(share.take(32, true).empty());
  CHECK(share.take(32, false).empty());
}
