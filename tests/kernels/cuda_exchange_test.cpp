#include <doctest/doctest.h>

#include "cuda_test_data.h"

using namespace tandem;

TEST_CASE("a block is received run by run, and nothing between the runs") {
  struct Case {
    int64_t offset, rows, bytes, stride;
  };
  const Case cases[] = {{0, 1, 4096, 0}, {16, 5, 32, 48},   {4, 3, 20, 24}, {3, 4, 5, 9},
                        {0, 7, 16, 16},  {8, 1, 40, 1},     {0, 1, 0, 16},  {0, 0, 16, 16},
                        {0, 2000, 2, 3}, {0, 3, 3000, 3004}};
  for (const Case& c : cases) {
    CAPTURE(c.offset);
    CAPTURE(c.rows);
    CAPTURE(c.bytes);
    std::vector<std::byte> source(16384), expected(16384, std::byte{7});
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 31 + i / 251);
    for (int64_t row = 0; row < c.rows; ++row)
      for (int64_t i = 0; i < c.bytes; ++i) {
        const auto at = static_cast<size_t>(c.offset + row * c.stride + i);
        expected[at] = source[at];
      }
    const DeviceArray<std::byte> shared(source), own(std::vector<std::byte>(16384, std::byte{7}));
    const Block block{.data = nullptr, .rows = c.rows, .bytes = c.bytes, .stride = c.stride};
    cuda::receive(shared.get() + c.offset, own.get() + c.offset, block, nullptr);
    CHECK(own.read() == expected);
  }
}

TEST_CASE("stamps ascend, and are moved by the offset") {
  const DeviceArray<int64_t> times(std::vector<int64_t>(3, 0)), zero(std::vector<int64_t>{0}),
      hour(std::vector<int64_t>{3'600'000'000'000});
  cuda::stamp(times.get(), zero.get(), nullptr);
  cuda::stamp(times.get() + 1, zero.get(), nullptr);
  cuda::stamp(times.get() + 2, hour.get(), nullptr);
  const std::vector<int64_t> t = times.read();
  CHECK(t[0] > 0);
  CHECK(t[1] >= t[0]);
  CHECK(t[2] >= t[1] + 3'600'000'000'000);
}
