#include "kernels/kernel_set.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "kernels/error.h"

using namespace tandem;

namespace {

/// Sets an environment variable for the length of a test.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value, 1);
  }
  ~Environment() { old_.empty() ? unsetenv(name_) : setenv(name_, old_.c_str(), 1); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::string old_;
};

}  // namespace

TEST_CASE("the generic kernel set is always there, last") {
  REQUIRE(!kernel_sets().empty());
  CHECK(kernel_sets().back()->name == "generic");
  CHECK(compiled_kernel_sets().back()->name == "generic");
}

TEST_CASE("kernel sets that this CPU cannot run are not offered") {
  for (const KernelSet* set : compiled_kernel_sets()) {
    const auto runnable = kernel_sets();
    if (std::ranges::find(runnable, set) != runnable.end()) {
      CHECK(&kernel_set(set->name) == set);
    } else {
      MESSAGE("this CPU cannot run ", std::string(set->name), ": its kernels are not tested");
      CHECK_THROWS_AS(kernel_set(set->name), Error);
    }
  }
}

TEST_CASE("TANDEM_ISA is what an empty name means, and a name wins over it") {
  const Environment forced("TANDEM_ISA", "generic");
  CHECK(kernel_set("").name == "generic");
  const std::string_view best = kernel_sets().front()->name;
  CHECK(kernel_set(best).name == best);
}

TEST_CASE("an empty TANDEM_ISA is as good as none") {
  const Environment unforced("TANDEM_ISA", "");
  CHECK(&kernel_set("") == kernel_sets().front());
}

TEST_CASE("a name that is no instruction set is refused with the ones there are") {
  CHECK_THROWS_WITH_AS(kernel_set("sse9"), doctest::Contains("`sse9`"), Error);
  CHECK_THROWS_WITH_AS(kernel_set("sse9"), doctest::Contains("generic"), Error);
  const Environment forced("TANDEM_ISA", "mmx");
  CHECK_THROWS_WITH_AS(kernel_set(""), doctest::Contains("TANDEM_ISA: `mmx`"), Error);
}
