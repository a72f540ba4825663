#include <doctest/doctest.h>

#include <algorithm>

#include "test_data.h"

using namespace tandem;
using reference::Matrix;

TEST_CASE("the norm is the reference's, also in place") {
  for (const KernelSet* set : kernel_sets()) {
    for (const int64_t n : {1, 5, 16, 17, 64, 100, 2048}) {
      for (const float size : {1.0f, 1e-4f, 1e15f}) {
        CAPTURE(set->name);
        CAPTURE(n);
        CAPTURE(size);
        const std::vector<float> x = random_floats(n, 1, size), weight = random_floats(n, 2);
        std::vector<float> out(static_cast<size_t>(n)), in_place = x;
        set->rms_norm(x.data(), weight.data(), 1e-5f, n, out.data());
        set->rms_norm(in_place.data(), weight.data(), 1e-5f, n, in_place.data());
        const Matrix exact =
            reference::rms_norm(reference::from_floats(x.data(), 1, n), weight, 1e-5f);
        // A mean of n squares, a root and three products; the eps itself is the same float.
        const double relative = kUnitRoundoff * (8 + std::sqrt(static_cast<double>(n)));
        check_near(reference::from_floats(out.data(), 1, n), exact, relative * exact.cwiseAbs());
        CHECK(differing(out, in_place) == 0);
      }
    }
  }
}

TEST_CASE("swiglu is the reference's for every gate, and writes n values") {
  for (const KernelSet* set : kernel_sets()) {
    for (int64_t n = 1; n <= 40; ++n) {
      CAPTURE(set->name);
      CAPTURE(n);
      std::vector<float> gate = random_floats(n, 1, 8), up = random_floats(n, 2);
      gate.front() = n % 2 == 0 ? 90.0f : -90.0f;
      gate.back() = n % 4 < 2 ? 1000.0f : -1000.0f;
      std::vector<float> out(static_cast<size_t>(n + 1), 7);
      set->swiglu(gate.data(), up.data(), n, out.data());
      const Matrix exact = reference::swiglu(reference::from_floats(gate.data(), 1, n),
                                             reference::from_floats(up.data(), 1, n));
      // e^-gate has 2 ulp and half an ulp of |gate| more; below e^-87 it is held at that.
      const Matrix tolerance = exact.cwiseAbs().array() * (kUnitRoundoff * 32) + 1e-34;
      check_near(reference::from_floats(out.data(), 1, n), exact, tolerance);
      CHECK(out.back() == 7);
    }
  }
}

TEST_CASE("conversion to f16 rounds every element to nearest, to f32 copies") {
  for (const KernelSet* set : kernel_sets()) {
    for (int64_t n = 1; n <= 40; ++n) {
      std::vector<float> x = random_floats(n, static_cast<uint64_t>(n), 1000);
      x.front() = 65519.0f;    // just below what becomes infinite
      x.back() = -0x1.8p-24f;  // half way between two subnormals
      std::vector<uint16_t> halves(static_cast<size_t>(n + 1), 7), expected;
      for (const float value : x) expected.push_back(f32_to_f16(value));
      expected.push_back(7);
      set->convert(DType::kF16, x.data(), n, reinterpret_cast<std::byte*>(halves.data()));
      CHECK(halves == expected);
      std::vector<float> copy(static_cast<size_t>(n));
      set->convert(DType::kF32, x.data(), n, reinterpret_cast<std::byte*>(copy.data()));
      CHECK(differing(copy, x) == 0);
    }
  }
}

TEST_CASE("a row is rounded to every KV format as the reference does, block by block") {
  for (const KernelSet* set : kernel_sets()) {
    for (const DType dtype : kKvFormats) {
      CAPTURE(set->name);
      CAPTURE(name(dtype));
      for (const int64_t n : {32, 64, 96, 512}) {
        std::vector<float> x = random_floats(n, static_cast<uint64_t>(n), 10);
        std::fill_n(x.begin(), 32, n == 64 ? 0.0f : 0x1p-140f);  // a block that no scale is left of
        x[static_cast<size_t>(n - 1)] = -300;
        const Matrix exact = reference::from_floats(x.data(), 1, n);
        std::vector<std::byte> row(static_cast<size_t>(row_bytes(dtype, n) + 1), std::byte{7});
        set->convert(dtype, x.data(), n, row.data());
        CHECK(reference::kv_row(dtype, row.data(), n) == reference::kv_rounded(dtype, exact));
        CHECK(row.back() == std::byte{7});
      }
    }
  }
}

TEST_CASE("of several largest values the first is the argmax") {
  for (const KernelSet* set : kernel_sets()) {
    CAPTURE(set->name);
    for (int64_t n = 1; n <= 70; ++n) {
      std::vector<float> x = random_floats(n, static_cast<uint64_t>(n));
      CHECK(set->argmax(x.data(), n) == std::ranges::max_element(x) - x.begin());
      for (int64_t first = 0; first < n; ++first) {
        x.assign(static_cast<size_t>(n), -2);
        x[static_cast<size_t>(first)] = x.back() = -1;
        CHECK(set->argmax(x.data(), n) == first);
      }
      x.assign(static_cast<size_t>(n), -std::numeric_limits<float>::infinity());
      CHECK(set->argmax(x.data(), n) == 0);
    }
  }
}

TEST_CASE("every 8 bytes are in the checksum of a read") {
  const KernelSet& generic = *kernel_sets().back();
  AlignedBytes data(1024);
  for (int64_t i = 0; i < 1024; ++i) data.data()[i] = static_cast<std::byte>(i * 37);
  for (const KernelSet* set : kernel_sets()) {
    CAPTURE(set->name);
    const uint64_t sum = set->read(data.data(), 1024);
    CHECK(sum == generic.read(data.data(), 1024));
    for (int64_t i = 0; i < 1024; i += 8) {
      data.data()[i] ^= std::byte{1};
      CHECK(set->read(data.data(), 1024) != sum);
      data.data()[i] ^= std::byte{1};
    }
  }
}
