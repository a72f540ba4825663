// The most that a core's arithmetic gives: multiply-adds on registers, with no operand to wait for.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

/// Chains that do not wait for each other: latency x pipes of any core that there is.
inline constexpr int kPeakChains = 12;

/// Runs `step(acc)` on every chain, `rounds` times. The operands are read anew each round, or the
/// compiler would multiply once.
template <class Acc, class Step>
void run_chains(Acc (&acc)[kPeakChains], int64_t rounds, const Step& step) {
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : : : "memory");
#pragma GCC unroll 16
    for (int c = 0; c < kPeakChains; ++c) acc[c] = step(acc[c]);
  }
  asm volatile("" : : "r"(&acc) : "memory");  // or it would all be for nothing
}

/// Multiplications and additions that were done.
inline double peak(ActivationFormat format, int64_t rounds) {
  if (kHasTiles && format != ActivationFormat::kF32) return tile_peak(format, rounds);
  alignas(64) std::byte w[64] = {};
  alignas(64) int8_t x[64] = {};
  asm volatile("" : : "r"(&w), "r"(&x) : "memory");
  const auto floats = [](const auto& bytes) { return load(reinterpret_cast<const float*>(bytes)); };
  double macs_of_step = 16;
  switch (format) {
    case ActivationFormat::kF32: {
      Vec acc[kPeakChains] = {};
      run_chains(acc, rounds, [&](Vec a) { return fma(floats(w), floats(x), a); });
      break;
    }
    case ActivationFormat::kBF16: {
      Vec acc[kPeakChains] = {};
      run_chains(acc, rounds, [&](Vec a) {
        return dot_bf16(a, load_bytes(w), reinterpret_cast<const uint16_t*>(x));
      });
      macs_of_step *= 2;
      break;
    }
    case ActivationFormat::kQ8: {
      IVec acc[kPeakChains] = {};
      run_chains(acc, rounds, [&](IVec a) {
        const Bytes weights = load_bytes(w);
        return dot_groups<1>(a, &weights, x);
      });
      macs_of_step *= 4;
      break;
    }
  }
  return 2 * macs_of_step * kPeakChains * static_cast<double>(rounds);
}
