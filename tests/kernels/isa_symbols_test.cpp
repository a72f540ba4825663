#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string>

#include "kernels/kernel_set.h"

namespace {

/// What a shell command prints; empty where it cannot run.
std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  char piece[4096];
  while (pipe && fgets(piece, sizeof piece, pipe.get())) text += piece;
  return text;
}

/// Whether a mangled name lies in the namespace of a kernel set: _ZN6tandem4avx2...
bool in_kernel_set(const std::string& symbol) {
  const auto sets = tandem::compiled_kernel_sets();
  return std::ranges::any_of(sets, [&](const tandem::KernelSet* set) {
    return symbol.starts_with(fmt::format("_ZN6tandem{}{}", set->name.size(), set->name));
  });
}

}  // namespace

TEST_CASE("the linker can share no function of one instruction set with another") {
  // Of weak functions with one name the linker keeps any: one outside of its kernel set's namespace
  // could bring AVX-512 code to a CPU without it.
  const std::string symbols =
      output_of("nm -A --defined-only '" TANDEM_KERNELS_LIBRARY "' 2>/dev/null | grep isa_body");
  if (symbols.empty()) {
    MESSAGE("no nm, or no archive " TANDEM_KERNELS_LIBRARY ": symbols are not tested");
    return;
  }
  std::istringstream lines(symbols);
  std::string address, type, symbol;  // the address is FILE:MEMBER:HEX
  size_t tables = 0;
  while (lines >> address >> type >> symbol) {
    tables += symbol.starts_with("_ZN6tandem") && symbol.ends_with("8kKernelsE");
    if (type == "W") CHECK_MESSAGE(in_kernel_set(symbol), symbol);
  }
  CHECK(tables == tandem::compiled_kernel_sets().size());
}
