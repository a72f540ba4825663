// What the CUDA attention kernels share with the host: needs no device, emulated or not.
#include "kernels/cuda_attention_math.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

using namespace tandem;

TEST_CASE("the chunks that a grid is sized for are the most that any depth needs") {
  constexpr int kOpen = 1 << 30;
  for (const Positions context :
       {Positions{0, kOpen}, Positions{}, Positions{256, 512}, Positions{768, kOpen}})
    for (const bool include_new : {false, true})
      for (const int tokens : {1, 2, 16})
        for (const int max_context : {0, 1, 255, 256, 300, 1000}) {
          CAPTURE(context.begin);
          CAPTURE(include_new);
          CAPTURE(tokens);
          CAPTURE(max_context);
          int most = 0;
          for (int past = 0; past <= max_context; ++past)
            most = std::max(most, size(part_positions(context, include_new, past, tokens).chunks));
          CHECK(most_chunks(context, include_new, tokens, max_context) == most);
        }
}

static bool is(Positions positions, int begin, int end) {
  return positions.begin == begin && positions.end == end;
}

TEST_CASE("a part's positions are those before the step and those of the step") {
  // 700 cached, 5 new: chunks 0 to 2 hold all; the home from 768 on sees nothing.
  const PartPositions all = part_positions({0, 1 << 30}, true, 700, 5);
  CHECK(is(all.cached, 0, 700));
  CHECK(is(all.fresh, 700, 705));
  CHECK(is(all.chunks, 0, 3));
  CHECK(size(part_positions({768, 1024}, false, 700, 5).chunks) == 0);
  CHECK(is(part_positions({}, true, 767, 2).chunks, 2, 4));
  CHECK(is(part_positions({0, 256}, true, 700, 5).chunks, 0, 3));
  CHECK(is(within_chunk({0, 700}, 2), 0, 700 - 512));
  CHECK(size(within_chunk({0, 256}, 1)) == 0);
  CHECK(is(cut_at({256, kOpenEnd}, 1000), 256, 1000));
  CHECK(is(cut_at({2048, kOpenEnd}, 1000), 1000, 1000));
}

TEST_CASE("paths through a tree") {
  //  0 - 2 - 4      1 - 6        3 and 5 follow 0 and 3
  const int32_t parents[] = {-1, -1, 0, 0, 2, 3, 1};
  int path[8];
  token_path(parents, 4, path);
  CHECK(std::equal(path, path + 8, std::array{0, 2, 4, -1, -1, -1, -1, -1}.begin()));
  token_path(nullptr, 2, path);
  CHECK(std::equal(path, path + 8, std::array{0, 1, 2, -1, -1, -1, -1, -1}.begin()));
  CHECK(path_bits(parents, 4, 0) == 0b10101);
  CHECK(path_bits(parents, 5, 2) == 0b1010);
  CHECK(path_bits(parents, 6, -3) == (uint64_t{1} << 4 | uint64_t{1} << 9));
  CHECK(path_bits(nullptr, 70, 64) == 0x7f);
  CHECK(path_bits(nullptr, 70, -2) == ~uint64_t{3});
  CHECK(path_bits(nullptr, 3, 64) == 0);
  CHECK(bits_between(-5, 3) == 7);
  CHECK(bits_between(0, 64) == ~uint64_t{0});
  CHECK(bits_between(63, 90) == uint64_t{1} << 63);
  CHECK(bits_between(64, 90) == 0);
  CHECK(bits_between(5, 5) == 0);
}
