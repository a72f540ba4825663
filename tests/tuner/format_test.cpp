#include "tuner/format.h"

#include <doctest/doctest.h>

#include "kernels/error.h"

namespace tandem {
namespace {

TEST_CASE("Bytes are shown in the largest binary unit they reach") {
  CHECK(format_bytes(17) == "17 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.00 KiB");
  CHECK(format_bytes(1.5 * 1024 * 1024) == "1.50 MiB");
  CHECK(format_bytes(40.0 * 1024 * 1024 * 1024) == "40.0 GiB");
}

TEST_CASE("Seconds are shown in the unit that keeps them readable") {
  CHECK(format_seconds(2) == "2 s");
  CHECK(format_seconds(0.0123) == "12.3 ms");
  CHECK(format_seconds(840e-9) == "840 ns");
  CHECK(format_seconds(1.5e-6) == "1.50 us");
  CHECK(format_bytes_per_s(53.1e9) == "53.1 GB/s");
}

TEST_CASE("Ranges and core lists are written as people read them") {
  CHECK(format_range({0, 4224}) == "[0,4224)");
  CHECK(format_range({256, kOpenEnd}) == "[256,)");
  CHECK(format_range({5, 5}) == "-");
  CHECK(format_cores({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8");
  CHECK(format_cores({}).empty());
}

TEST_CASE("A rate carries its interval") {
  CHECK(format_rate({.per_s = 55.24, .low = 52.9, .high = 57.04}) == "55.2 (52.9 .. 57.0)");
  CHECK(format_rate({.per_s = 5, .low = 4.5, .high = 5.5}) == "5.00 (4.50 .. 5.50)");
}

TEST_CASE("Amounts of memory are parsed with binary and decimal units") {
  CHECK(parse_bytes("2GiB", "x") == 2147483648);  // 2 * 2^30
  CHECK(parse_bytes(" 512 MiB ", "x") == 536870912);
  CHECK(parse_bytes("1.5GB", "x") == 1500000000);
  CHECK(parse_bytes("3e9", "x") == 3000000000);
  CHECK(parse_bytes("7", "x") == 7);
}

TEST_CASE("What is no amount of memory is an error that names the option and the text") {
  for (const char* text : {"", "GiB", "2 lbs", "-1GiB", "0", "1e30GiB", "nan", "2GiB x"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(parse_bytes(text, "--budget cpu0"), doctest::Contains("--budget cpu0"),
                         Error);
  }
}

TEST_CASE("Lists drop blanks and empty pieces") {
  CHECK(split_list(" a, b,,c ") == std::vector<std::string>{"a", "b", "c"});
  CHECK(split_list("").empty());
  CHECK(split_list("cpu0=0;cpu1=1", ';') == std::vector<std::string>{"cpu0=0", "cpu1=1"});
}

TEST_CASE("Integer lists take negative numbers and name what is none") {
  CHECK(parse_integers("-1,0,0,1", "x") == std::vector<int32_t>{-1, 0, 0, 1});
  CHECK(parse_integers("", "x").empty());
  CHECK_THROWS_WITH_AS(parse_integers("1,b", "--parents"), doctest::Contains("--parents: 'b'"),
                       Error);
  CHECK_THROWS_AS(parse_integers("99999999999", "x"), Error);
  CHECK_THROWS_AS(parse_integers("1.5", "x"), Error);
}

}  // namespace
}  // namespace tandem
