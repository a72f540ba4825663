// `./dev gpu bench` with sizes that an emulated device can do: what it prints, not how fast.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/bench/gpu_rows.h"
#include "tests/tuner/tiny_model.h"

namespace tandem {
namespace {

bench::GpuSizes tiny_sizes() {
  return {.copy_bytes = 1 << 16,
          .rotated_bytes = 1 << 17,
          .large_bytes = 1 << 17,
          .small_bytes = 1 << 15,
          .short_context = 256,
          .long_context = 300,
          .prompt = 24,
          .runs = 2,
          .model_name = "tiny",
          .model = [] { return synthesize_model(tiny_model({.dtype = DType::kBF16}), 1); },
          .profile_s = [] { return 121.0; }};
}

}  // namespace

TEST_CASE("the GPU bench measures every speed that has a bar, and says whether it holds") {
  const auto rows = bench::gpu_rows(tiny_sizes(), [](const std::string&) {});
  const std::vector<std::string> beginnings{"copy within device memory",
                                            "linear bf16",
                                            "linear q8_0",
                                            "linear q4_0",
                                            "linear bf16",
                                            "linear q8_0",
                                            "linear q4_0",
                                            "attention f16 8 x 4 x 128 at 256",
                                            "attention f16 8 x 4 x 128 at 300",
                                            "decode step of tiny",
                                            "prefill of 24 tokens",
                                            "exchange between units",
                                            "profile of GPU and CPU"};
  REQUIRE(rows.size() == beginnings.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(rows[i].what);
    CHECK(rows[i].what.starts_with(beginnings[i]));
    if (i != 10) CHECK(rows[i].measured > 0);  // 0 where the machine has no cuBLASLt
  }
  CHECK_FALSE(rows.back().holds());  // 121 s of 120

  const std::string table = bench::gpu_table(rows);
  CHECK(std::count(table.begin(), table.end(), '\n') == static_cast<ptrdiff_t>(1 + rows.size()));
  CHECK(table.starts_with("what"));
  CHECK(table.find("121.0 s") != std::string::npos);
  CHECK(table.find("<= 120.0 s") != std::string::npos);
  const auto json = bench::gpu_json(rows);
  CHECK(json.size() == rows.size());
  CHECK(json.back()["holds"] == false);
  CHECK_FALSE(json.front().contains("bar"));
}

TEST_CASE("shares hold from their bar on, times up to theirs") {
  using enum bench::Measure;
  CHECK(bench::GpuRow{"", kShare, 0.85, 0.85}.holds());
  CHECK_FALSE(bench::GpuRow{"", kShare, 0.84, 0.85}.holds());
  CHECK(bench::GpuRow{"", kMicroseconds, 5, 5}.holds());
  CHECK_FALSE(bench::GpuRow{"", kSeconds, 121, 120}.holds());
  CHECK(bench::GpuRow{"", kBytesPerS, 0, 0}.holds());
}

}  // namespace tandem
