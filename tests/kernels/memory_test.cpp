#include "kernels/memory.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

using namespace tandem;

TEST_CASE("pieces of an arena are zeroed, start at cache lines and do not overlap") {
  Arena arena;
  std::vector<std::shared_ptr<std::byte[]>> pieces;
  const std::vector<int64_t> sizes{1, 64, 65, 1 << 20, int64_t{65} << 20, 3};
  for (const int64_t size : sizes) {
    pieces.push_back(arena.take(size));
    CHECK(reinterpret_cast<uintptr_t>(pieces.back().get()) % 64 == 0);
    CHECK(pieces.back()[0] == std::byte{0});
    CHECK(pieces.back()[size - 1] == std::byte{0});
    std::memset(pieces.back().get(), static_cast<int>(pieces.size()), static_cast<size_t>(size));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    CHECK(pieces[i][0] == static_cast<std::byte>(i + 1));
    CHECK(pieces[i][sizes[i] - 1] == static_cast<std::byte>(i + 1));
  }
}

TEST_CASE("a piece outlives the arena and its other pieces") {
  std::shared_ptr<std::byte[]> kept;
  {
    Arena arena;
    arena.take(100);
    kept = arena.take(100);
  }
  std::memset(kept.get(), 7, 100);
  CHECK(kept[99] == std::byte{7});
}
