#include "kernels/rope.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace tandem;

TEST_CASE("frequencies fall from 1 by powers of the base") {
  // base^(-2i/8) of base 16 is 1, 1/2, 1/4, 1/8.
  const std::vector<double> frequencies = inverse_frequencies(16, 8, {});
  REQUIRE(frequencies.size() == 4);
  for (int i = 0; i < 4; ++i) CHECK(frequencies[i] == doctest::Approx(std::ldexp(1, -i)));
}

TEST_CASE("factors divide the frequencies") {
  const std::vector<float> factors{1, 8};
  // base^(-2i/4) of base 100 is 1, 1/10.
  const std::vector<double> frequencies = inverse_frequencies(100, 4, factors);
  CHECK(frequencies[0] == doctest::Approx(1));
  CHECK(frequencies[1] == doctest::Approx(0.1 / 8));
}

TEST_CASE("a table holds cosine and sine of position times frequency") {
  const std::vector<double> frequencies{1, 0.5};
  const std::vector<int64_t> positions{0, 100000};
  std::vector<float> table(8);
  fill_rope_table(positions, frequencies, table.data());
  CHECK(table[0] == 1);
  CHECK(table[1] == 0);
  CHECK(table[2] == 1);
  CHECK(table[3] == 0);
  CHECK(table[4] == static_cast<float>(std::cos(1e5)));
  CHECK(table[5] == static_cast<float>(std::sin(1e5)));
  CHECK(table[6] == static_cast<float>(std::cos(5e4)));
  CHECK(table[7] == static_cast<float>(std::sin(5e4)));
}
