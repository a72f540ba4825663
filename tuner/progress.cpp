#include "tuner/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace tandem {
namespace {
constexpr int kBarWidth = 30;
}

Progress::Progress(bool enabled)
    : style_(!enabled                ? Style::kNone
             : isatty(STDERR_FILENO) ? Style::kBar
                                     : Style::kLines) {}

Progress::~Progress() {
  if (style_ == Style::kBar) std::fputs("\r\x1b[K", stderr);
}

void Progress::update(double fraction, const std::string& what) {
  const int per_cent = static_cast<int>(100 * std::clamp(fraction, 0.0, 1.0));
  if (style_ == Style::kBar && (per_cent != shown_ || what != what_)) {
    const int filled = per_cent * kBarWidth / 100;
    fmt::print(stderr, "\r\x1b[K[{:#<{}}{:.<{}}] {:3} % {}", "", filled, "", kBarWidth - filled,
               per_cent, what);
    shown_ = per_cent;
    what_ = what;
  }
  if (style_ == Style::kLines && per_cent / 10 > shown_) {
    shown_ = per_cent / 10;
    fmt::print(stderr, "{:3} % {}\n", shown_ * 10, what);
  }
  std::fflush(stderr);
}

}  // namespace tandem
