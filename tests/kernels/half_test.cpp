#include "kernels/half.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace tandem;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool is_nan_half(int bits) { return (bits & 0x7fff) > 0x7c00; }

/// The value of a binary16 by its definition (IEEE 754-2019, 3.4), sign aside; not for NaN.
double magnitude(int bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return kInfinity;
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
}

}  // namespace

TEST_CASE("every half has the value of its definition and comes back unchanged") {
  int wrong = 0;
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float x = f16_to_f32(half);
    if (is_nan_half(bits)) {
      wrong += !std::isnan(x) || f32_to_f16(x) != (half | 0x200);  // made quiet, payload kept
      continue;
    }
    const double expected = bits & 0x8000 ? -magnitude(bits) : magnitude(bits);
    wrong += x != expected || std::signbit(x) != (bits >= 0x8000) || f32_to_f16(x) != half;
  }
  CHECK(wrong == 0);
}

TEST_CASE("between two halves the nearest is taken, and half way the even one") {
  int wrong = 0;
  for (int low = 0; low < 0x7bff; ++low) {
    const float a = f16_to_f32(static_cast<uint16_t>(low));
    const float b = f16_to_f32(static_cast<uint16_t>(low + 1));
    const float middle = a + (b - a) / 2;  // exact: 24 bits hold one more than the 11 of a half
    const int even = low % 2 == 0 ? low : low + 1;
    wrong += f32_to_f16(middle) != even || f32_to_f16(-middle) != (even | 0x8000);
    wrong += f32_to_f16(std::nextafter(middle, 0.0f)) != low;
    wrong += f32_to_f16(std::nextafter(middle, kInfinity)) != low + 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("floats beyond the halves become infinite or zero") {
  CHECK(f32_to_f16(65504.0f) == 0x7bff);
  CHECK(f32_to_f16(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(std::numeric_limits<float>::max()) == 0x7c00);
  CHECK(f32_to_f16(-kInfinity) == 0xfc00);
  CHECK(f32_to_f16(0x1p-25f) == 0);  // half of the smallest subnormal: ties to even
  CHECK(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)) == 1);
  CHECK(f32_to_f16(-std::numeric_limits<float>::denorm_min()) == 0x8000);
}

TEST_CASE("every bfloat16 comes back unchanged") {
  int wrong = 0;
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const bool nan = (bits & 0x7fff) > 0x7f80;
    wrong += f32_to_bf16(bf16_to_f32(half)) != (nan ? half | 0x40 : half);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a float becomes the nearest bfloat16, and half way the even one") {
  CHECK(f32_to_bf16(bits_float(0x3f808000)) == 0x3f80);  // 1 + half a step
  CHECK(f32_to_bf16(bits_float(0x3f808001)) == 0x3f81);
  CHECK(f32_to_bf16(bits_float(0x3f818000)) == 0x3f82);
  CHECK(f32_to_bf16(bits_float(0x3f817fff)) == 0x3f81);
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(f32_to_bf16(bits_float(0x00008001)) == 0x0001);  // subnormals round alike
  CHECK(f32_to_bf16(bits_float(0x7f800001)) == 0x7fc0);  // a NaN whose payload is cut off stays one
}
