#include "runtime/sampling.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "kernels/error.h"

namespace tandem {
namespace {

std::vector<int32_t> draw(const SamplingOptions& options, std::span<const float> logits, int n) {
  TokenSampler sampler(options);
  std::vector<int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(sampler.next(logits));
  return tokens;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST_CASE("greedy takes the largest logit and, of equal ones, the lowest id") {
  CHECK(greedy_token(std::array{1.0f, 3.0f, 2.0f}) == 1);
  CHECK(greedy_token(std::array{3.0f, 1.0f, 3.0f}) == 0);
  CHECK(greedy_token(std::array{-kInf, -kInf}) == 0);
}

TEST_CASE("greedy passes over values that are no numbers and refuses logits without any") {
  CHECK(greedy_token(std::array{kNan, 1.0f, 2.0f}) == 2);
  CHECK_THROWS_AS(greedy_token(std::array{kNan, kNan}), Error);
}

TEST_CASE("temperature 0 and top-k 1 are both greedy") {
  const std::array logits{0.5f, 2.0f, 2.0f, 1.0f};
  CHECK(draw({.temperature = 0}, logits, 3) == std::vector<int32_t>{1, 1, 1});
  CHECK(draw({.temperature = 5, .top_k = 1}, logits, 3) == std::vector<int32_t>{1, 1, 1});
}

TEST_CASE("the same seed draws the same tokens and another seed draws others") {
  const std::array logits{0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
  const SamplingOptions one{.temperature = 1, .seed = 7};
  const SamplingOptions two{.temperature = 1, .seed = 8};
  CHECK(draw(one, logits, 50) == draw(one, logits, 50));
  CHECK(draw(one, logits, 50) != draw(two, logits, 50));
}

TEST_CASE("the draws of seed 1 over eight equal logits are fixed for all machines") {
  // mt19937_64 is fixed by the standard; the token is floor(8 u), u from the upper 53 bits, which
  // for equal weights is the upper 3 bits of each output.
  const std::array logits{0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
  std::mt19937_64 random(1);
  std::vector<int32_t> expected;
  for (int i = 0; i < 20; ++i) expected.push_back(static_cast<int32_t>(random() >> 61));
  CHECK(draw({.temperature = 1, .seed = 1}, logits, 20) == expected);
}

TEST_CASE("top-k draws only from the k largest logits") {
  const std::array logits{1.f, 5.f, 4.f, 3.f, 2.f};
  const auto tokens = draw({.temperature = 100, .top_k = 2}, logits, 200);
  CHECK(std::set<int32_t>(tokens.begin(), tokens.end()) == std::set<int32_t>{1, 2});
}

TEST_CASE("top-p draws from the fewest tokens that reach it") {
  // Probabilities 0.5, 0.3, 0.2: 0.5 is reached by the first alone, 0.6 needs two, 1 needs all.
  const std::array logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  const auto drawn = [&](double top_p) {
    const auto tokens = draw({.temperature = 1, .top_p = top_p}, logits, 200);
    return std::set<int32_t>(tokens.begin(), tokens.end());
  };
  CHECK(drawn(0.49) == std::set<int32_t>{0});
  CHECK(drawn(0.6) == std::set<int32_t>{0, 1});
  CHECK(drawn(1) == std::set<int32_t>{0, 1, 2});
}

TEST_CASE("tokens come as often as their probability says") {
  // Probabilities 0.8 and 0.2; 10000 draws have a standard deviation of 40, so 7500..8500 holds by
  // 12 of them.
  const std::array logits{std::log(0.8f), std::log(0.2f)};
  int zeros = 0;
  for (const int32_t token : draw({.temperature = 1, .seed = 3}, logits, 10000))
    zeros += token == 0;
  CHECK(zeros > 7500);
  CHECK(zeros < 8500);
  // At temperature 1/2 probabilities are squared: 0.64 / 0.68 = 0.941.
  zeros = 0;
  for (const int32_t token : draw({.temperature = 0.5, .seed = 3}, logits, 10000))
    zeros += token == 0;
  CHECK(zeros > 9200);
}

TEST_CASE("an infinite logit is taken") {
  CHECK(draw({.temperature = 1}, std::array{0.f, kInf, 1.f}, 2) == std::vector<int32_t>{1, 1});
}

TEST_CASE("options outside their domain are refused by name") {
  CHECK_THROWS_WITH_AS(TokenSampler({.temperature = -1}),
                       "--temperature -1: expected 0 (greedy) or more", Error);
  CHECK_THROWS_AS(TokenSampler({.temperature = std::nan("")}), Error);
  CHECK_THROWS_AS(TokenSampler({.top_k = -1}), Error);
  CHECK_THROWS_AS(TokenSampler({.top_p = 0}), Error);
  CHECK_THROWS_AS(TokenSampler({.top_p = 1.5}), Error);
}

}  // namespace
}  // namespace tandem
