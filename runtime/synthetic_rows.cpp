#include "runtime/synthetic_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/half.h"
#include "kernels/kernel_set.h"

namespace tandem {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

uint64_t finalise(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/// splitmix64: its numbers do not wait for one another, so it makes some 5 GB/s on one core.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() { return finalise(state_ += kGolden); }

 private:
  uint64_t state_;
};

/// Scales of quantised blocks: 16 steps from 0.75 to 1.25, whose mean square is 1.0237.
constexpr double kScaleRms = 1.0118;
using ScaleTable = std::array<uint16_t, 16>;

ScaleTable make_scales(int64_t k, double rms_of_quants) {
  ScaleTable scales;
  const double unit = 1 / (std::sqrt(static_cast<double>(k)) * rms_of_quants * kScaleRms);
  for (size_t i = 0; i < scales.size(); ++i)
    scales[i] = f32_to_f16(static_cast<float>(unit * (0.75 + static_cast<double>(i) / 30)));
  return scales;
}

/// Bytes 0x01 set their lowest bit: odd quants from -127 to 127 have mean 0 and never are -128,
/// which no quantiser writes.
constexpr uint64_t kOdd = 0x0101010101010101u;
constexpr double kOddQuantRms = 73.9;

void fill_q8_0(const ScaleTable& scales, int64_t k, Random random, std::byte* out) {
  for (int64_t block = 0; block < k / 32; ++block, out += 34) {
    std::memcpy(out, &scales[random.next() & 15], 2);
    for (int i = 0; i < 4; ++i) {
      const uint64_t quants = random.next() | kOdd;
      std::memcpy(out + 2 + 8 * i, &quants, 8);
    }
  }
}

/// Quants -8 to 7 have mean -1/2: scales of both signs, as quantisers write them, make the mean 0.
constexpr double kNibbleRms = 4.637;

void fill_q4_0(const ScaleTable& scales, int64_t k, Random random, std::byte* out) {
  for (int64_t block = 0; block < k / 32; ++block, out += 18) {
    const uint64_t choice = random.next();
    const auto sign = static_cast<uint16_t>((choice & 16) << 11);
    const auto scale = static_cast<uint16_t>(scales[choice & 15] | sign);
    std::memcpy(out, &scale, 2);
    for (int i = 0; i < 2; ++i) {
      const uint64_t quants = random.next();
      std::memcpy(out + 2 + 8 * i, &quants, 8);
    }
  }
}

/// Of the values of random quants at d = 1.
double rms_of_random_quants(DType dtype) {
  const DTypeInfo& format = info(dtype);
  const int64_t samples = (1 << 18) / format.block_size;
  std::vector<std::byte> block(static_cast<size_t>(format.block_bytes));
  std::vector<float> values(static_cast<size_t>(format.block_size));
  Random random(1);
  double sum = 0;
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (std::byte& byte : block) byte = static_cast<std::byte>(random.next());
    set_block_scale(dtype, 1, block.data());
    dequantize_row(dtype, block.data(), format.block_size, values.data());
    for (const float value : values) sum += double{value} * value;
  }
  return std::sqrt(sum / static_cast<double>(samples * format.block_size));
}

double known_rms(DType dtype) {
  static const auto known = [] {
    std::array<double, kDTypes.size()> rms{};
    for (const DTypeInfo& d : std::span(kDTypes).subspan(kCommonDTypes.size()))
      rms[static_cast<size_t>(d.dtype)] = rms_of_random_quants(d.dtype);
    return rms;
  }();
  return known[static_cast<size_t>(dtype)];
}

/// Every byte random but the scales, which are a format's own; their signs are random, too, since
/// quants of 0 to 2^n - 1 around an offset do not have mean 0.
void fill_quants(DType dtype, const ScaleTable& scales, int64_t k, Random random, std::byte* out) {
  const DTypeInfo& format = info(dtype);
  for (int64_t block = 0; block < k / format.block_size; ++block, out += format.block_bytes) {
    for (int64_t at = 0; at < format.block_bytes; at += 8) {
      const uint64_t bytes = random.next();
      std::memcpy(out + at, &bytes,
                  static_cast<size_t>(std::min<int64_t>(8, format.block_bytes - at)));
    }
    const uint64_t choice = random.next();
    const float scale = f16_to_f32(scales[choice & 15]);
    set_block_scale(dtype, choice & 16 ? -scale : scale, out);
  }
}

template <typename T>
using ValueTable = std::array<T, 256>;

/// Evenly spaced in +-sqrt(3/k), whose variance is 1/k; a random byte chooses one.
template <typename T, typename Convert>
ValueTable<T> make_values(int64_t k, Convert convert) {
  ValueTable<T> values;
  const double radius = std::sqrt(3 / static_cast<double>(k));
  for (int i = 0; i < 256; ++i)
    values[static_cast<size_t>(i)] = convert(static_cast<float>(radius * (2 * i - 255) / 255));
  return values;
}

template <typename T>
void fill_values(const ValueTable<T>& values, int64_t k, Random random, std::byte* out) {
  for (int64_t begin = 0; begin < k; begin += 8) {
    const uint64_t bytes = random.next();
    std::array<T, 8> chosen;
    for (size_t i = 0; i < 8; ++i) chosen[i] = values[bytes >> 8 * i & 255];
    const int64_t count = k - begin < 8 ? k - begin : 8;
    std::memcpy(out + begin * static_cast<int64_t>(sizeof(T)), chosen.data(),
                static_cast<size_t>(count) * sizeof(T));
  }
}

}  // namespace

uint64_t mix_seed(uint64_t seed, uint64_t index) {
  return finalise(seed + kGolden * finalise(index + kGolden));
}

void fill_rows(DType dtype, int64_t k, uint64_t seed, Range rows, std::byte* out) {
  const auto each_row = [&](auto fill) {
    for (int64_t row = rows.begin; row < rows.end; ++row, out += row_bytes(dtype, k))
      fill(Random(mix_seed(seed, static_cast<uint64_t>(row))), out);
  };
  const auto each_row_of_values = [&](const auto& values) {
    each_row([&](Random random, std::byte* row) { fill_values(values, k, random, row); });
  };
  switch (dtype) {
    case DType::kF32:
      return each_row_of_values(make_values<float>(k, [](float x) { return x; }));
    case DType::kF16:
      return each_row_of_values(make_values<uint16_t>(k, f32_to_f16));
    case DType::kBF16:
      return each_row_of_values(make_values<uint16_t>(k, f32_to_bf16));
    case DType::kQ8_0: {
      const ScaleTable scales = make_scales(k, kOddQuantRms);
      return each_row([&](Random random, std::byte* row) { fill_q8_0(scales, k, random, row); });
    }
    case DType::kQ4_0: {
      const ScaleTable scales = make_scales(k, kNibbleRms);
      return each_row([&](Random random, std::byte* row) { fill_q4_0(scales, k, random, row); });
    }
    default: {
      const ScaleTable scales = make_scales(k, known_rms(dtype));
      return each_row(
          [&](Random random, std::byte* row) { fill_quants(dtype, scales, k, random, row); });
    }
  }
}

void fill_vector(uint64_t seed, float centre, float radius, std::span<float> out) {
  Random random(seed);
  for (float& value : out) {
    const double unit = static_cast<double>(random.next() >> 11) * 0x1p-53;
    value = static_cast<float>(centre + radius * (2 * unit - 1));
  }
}

}  // namespace tandem
