// Which of the compiled kernel sets this CPU runs, and the choice between them.
#include "kernels/kernel_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/range.h"
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace tandem {

int64_t activation_row_bytes(ActivationFormat format, int64_t k) {
  int64_t bytes = 0;
  switch (format) {
    case ActivationFormat::kF32:
      bytes = 4 * k;
      break;
    case ActivationFormat::kBF16:
      bytes = 2 * round_up(k, 2);
      break;
    case ActivationFormat::kQ8:
      bytes = round_up(k, 64) + 3 * round_up(k / 32 * 4, 64);
      break;
  }
  // An odd number of cache lines: at a stride of 4 KiB, 16 rows would share the 8 ways of one L1
  // set (half the speed).
  const int64_t lines = div_up(bytes, 64);
  return 64 * (lines + (lines + 1) % 2);
}

#if defined(__x86_64__)
/// Tile registers are state that the kernel saves for processes that asked for it.
static bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h, ARCH_REQ_XCOMP_PERM
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBF16 = 1u << 22;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kNeeded = kTile | kInt8 | kBF16;
  return (edx & kNeeded) == kNeeded && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

static bool cpu_runs(std::string_view isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (isa == "avx2") return avx2;
  if (isa == "avxvnni") return avx2 && __builtin_cpu_supports("avxvnni");
  if (isa == "avx512") return avx512;
  if (isa == "avx512vnni") return vnni;
  const bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
  if (isa == "avx512bf16") return bf16;
  if (isa == "amx") return bf16 && may_use_tiles();
#elif defined(__aarch64__)
  if (isa == "neon") return true;
  const bool dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  if (isa == "neondot") return dot;
  if (isa == "neoni8mm") return dot && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#endif
  return isa == "generic";
}

std::span<const KernelSet* const> kernel_sets() {
  static const std::vector<const KernelSet*> sets = [] {
    std::vector<const KernelSet*> runnable;
    for (const KernelSet* set : compiled_kernel_sets())
      if (cpu_runs(set->name)) runnable.push_back(set);
    return runnable;
  }();
  return sets;
}

AskAhead ask_ahead_here() {
#if defined(__x86_64__)
  // Share of a bare read, k = 2048 (no ceiling: the best of these pass it).
  //
  // Zen 4, one token, one core (two):  Q8_0       Q4_0       Q4_K      Q6_K
  //   never                            103 (100)  105 (107)  103 (103)  98 (100)
  //   once                              93 (93)    98 (100)   94 (94)   91 (92)
  // Of AMD's family 19h it alone has AVX-512. Zen 5 is the other way round: see fetch_ahead().
  //
  // Emerald Rapids, one core, one token; four tokens:
  //                    BF16      Q8_0      Q4_0     Q4_K     Q6_K
  //   never             90        84        56       55       59
  //   once             104; 103  100; 84   68; 70   69; 70   89; 74
  //   twice            109; 110  100; 95   98; 78   98; 73   98; 85
  // (Once: while its neighbours are busy; else Q4_0, Q4_K and Q6_K 89, 89 and 90.)
  //
  // Others have not been measured.
  static const AskAhead best = [] {
    __builtin_cpu_init();
    if (__builtin_cpu_is("intel")) return AskAhead::kTwice;
    if (__builtin_cpu_is("amdfam19h") && __builtin_cpu_supports("avx512f")) return AskAhead::kNever;
    return AskAhead::kOnce;
  }();
  return best;
#else
  return AskAhead::kOnce;
#endif
}

const KernelSet& kernel_set(std::string_view name) {
  const char* forced = std::getenv("TANDEM_ISA");
  const bool by_environment = name.empty() && forced != nullptr && *forced != '\0';
  if (by_environment) name = forced;
  if (name.empty()) return *kernel_sets().front();
  std::vector<std::string_view> names;
  for (const KernelSet* set : kernel_sets()) {
    if (set->name == name) return *set;
    names.push_back(set->name);
  }
  throw Error(
      fmt::format("{}: `{}` is not an instruction set that this CPU and build run; use one of {}",
                  by_environment ? "TANDEM_ISA" : "isa", name, fmt::join(names, ", ")));
}

}  // namespace tandem
