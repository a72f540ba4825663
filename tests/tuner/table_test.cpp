#include "tuner/table.h"

#include <doctest/doctest.h>

namespace tandem {
namespace {

TEST_CASE("Columns are as wide as their widest cell; numbers are set right, words left") {
  Table table({"unit", "rate"});
  table.add({"cpu0", "9.5"});
  table.add({"a", "10.25"});
  CHECK(table.text() ==
        "unit   rate\n"
        "cpu0    9.5\n"
        "a     10.25\n");
}

TEST_CASE("Missing cells stay empty and no line ends in blanks") {
  Table table({"a", "b"});
  CHECK(table.empty());
  table.add({"x"});
  CHECK_FALSE(table.empty());
  CHECK(table.text() == "a  b\nx\n");
}

TEST_CASE("Letters beyond ASCII count once") {
  Table table({"a", "b"});
  table.add({"\u00b5s", "x"});
  table.add({"ns", "x"});
  CHECK(table.text() == "a   b\n\u00b5s  x\nns  x\n");
}

}  // namespace
}  // namespace tandem
