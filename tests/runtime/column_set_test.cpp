#include "runtime/column_set.h"

#include <doctest/doctest.h>

namespace tandem {

TEST_CASE("a set of columns joins ranges that touch and says what was missing") {
  using Ranges = std::vector<Range>;
  ColumnSet set;
  CHECK(set.add({32, 48}) == Ranges{{32, 48}});
  CHECK(set.add({0, 0}).empty());
  CHECK(set.add({80, 96}) == Ranges{{80, 96}});
  CHECK(set.pieces() == Ranges{{32, 48}, {80, 96}});
  CHECK(set.add({40, 44}).empty());
  CHECK(set.add({16, 32}) == Ranges{{16, 32}});  // touches from below
  CHECK(set.pieces() == Ranges{{16, 48}, {80, 96}});
  CHECK(set.add({0, 112}) == Ranges{{0, 16}, {48, 80}, {96, 112}});
  CHECK(set.pieces() == Ranges{{0, 112}});
  CHECK(set.add({128, 144}) == Ranges{{128, 144}});
  CHECK(set.add({112, 130}) == Ranges{{112, 128}});
  CHECK(set.pieces() == Ranges{{0, 144}});
}

}  // namespace tandem
