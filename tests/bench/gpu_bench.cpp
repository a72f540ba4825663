// `./dev gpu bench`: the speeds that a CUDA unit must have, one table. Exit code 1 where one is
// missed.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#include "tests/bench/gpu_rows.h"

int main(int argc, char** argv) {
  using namespace tandem::bench;
  // See tests/cuda_main.cpp.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  const bool json = argc == 2 && argv[1] == std::string_view("--json");
  if (argc > 1 && !json) {
    fmt::print(stderr, "gpu_bench: expected --json or nothing\n");
    return 2;
  }
  try {
    const auto rows =
        gpu_rows(full_sizes(), [](const std::string& what) { fmt::print(stderr, "{}\n", what); });
    fmt::print("{}", json ? gpu_json(rows).dump(2) + "\n" : gpu_table(rows));
    const bool all = std::all_of(rows.begin(), rows.end(), [](auto& row) { return row.holds(); });
    return all ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gpu_bench: {}\n", error.what());
    return 2;
  }
}
