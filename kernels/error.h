// The one exception that a user can cause. What only we can cause is an assert.
#pragma once

#include <stdexcept>
#include <string>

namespace tandem {

/// Bad input. The message is one line: the place, the value, and what was expected or what to do,
/// e.g. `plan.yaml:12: shares of down sum to 0.9, not 1`. Caught once, in main: exit code 2.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace tandem
