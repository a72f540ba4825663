// Says on stderr how far a long command is: a bar on a terminal, a line every 10 % in a pipe.
#pragma once

#include <string>

namespace tandem {

class Progress {
 public:
  /// A disabled one (--json, --quiet) prints nothing.
  explicit Progress(bool enabled);
  /// Leaves a terminal's line blank.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `fraction` in [0, 1]; `what` is done next, e.g. "cpu0 linear q4_0".
  void update(double fraction, const std::string& what);

 private:
  enum class Style { kNone, kBar, kLines };
  Style style_;
  int shown_ = -1;  ///< per cent (bar) or tenths (lines) shown last
  std::string what_;
};

}  // namespace tandem
