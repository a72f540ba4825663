// The most that a core's arithmetic gives: multiply-adds on registers, and inputs from the L1 where
// the kernels' instructions take them from memory.
// Included by isa_body.cpp only, inside the namespace of an instruction set.
#pragma once

/// Operands that the compiler knows nothing of.
struct PeakOperands {
  alignas(64) std::byte w[64] = {};
  alignas(64) int8_t x[64] = {};

  /// To the compiler they are other ones now, or it would multiply once for all rounds. Nothing but
  /// them: the sums are to stay in registers.
  void change() { asm volatile("" : "+m"(w), "+m"(x)); }
};

/// Runs `step(acc)` `rounds` times on as many chains as stay in registers, which do not wait for
/// each other. Returns how many steps those were.
template <class Acc, class Step>
int64_t run_chains(PeakOperands& operands, int64_t rounds, const Step& step) {
  Acc acc[kMaxTokens];
#pragma GCC unroll 16
  for (int c = 0; c < kMaxTokens; ++c) {  // begun apart, or the compiler would find them equal
    operands.change();
    __builtin_memcpy(&acc[c], operands.w, sizeof acc[c]);
  }
  for (int64_t i = 0; i < rounds; ++i) {
    operands.change();
#pragma GCC unroll 16
    for (int c = 0; c < kMaxTokens; ++c) acc[c] = step(acc[c]);
  }
#pragma GCC unroll 16
  for (int c = 0; c < kMaxTokens; ++c) {  // read once more, or it would all be for nothing
    __builtin_memcpy(operands.w, &acc[c], sizeof acc[c]);
    operands.change();
  }
  return rounds * kMaxTokens;
}

/// Multiplications and additions that were done.
inline double peak(ActivationFormat format, int64_t rounds) {
  if (kHasTiles && format != ActivationFormat::kF32) return tile_peak(format, rounds);
  PeakOperands o;
  const auto floats = [](const auto& bytes) { return load(reinterpret_cast<const float*>(bytes)); };
  const auto operations = [](int64_t macs, int64_t steps) {
    return 2.0 * static_cast<double>(16 * macs * steps);
  };
  switch (format) {
    case ActivationFormat::kF32:
      return operations(
          1, run_chains<Vec>(o, rounds, [&](Vec a) { return fma(floats(o.w), floats(o.x), a); }));
    case ActivationFormat::kBF16:
      return operations(2, run_chains<Vec>(o, rounds, [&](Vec a) {
                          return dot_bf16(a, load_bytes(o.w),
                                          reinterpret_cast<const uint16_t*>(o.x));
                        }));
    case ActivationFormat::kQ8:
      return operations(4, run_chains<IVec>(o, rounds, [&](IVec a) {
                          const Bytes weights = load_bytes(o.w);
                          return dot_groups<1>(a, &weights, o.x);
                        }));
  }
  return 0;
}
