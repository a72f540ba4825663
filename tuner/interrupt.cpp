#include "tuner/interrupt.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "kernels/error.h"
#include "kernels/file.h"

namespace tandem {
namespace {

// A signal handler sees nothing but globals, and may neither allocate nor lock: so names are
// copied, never freed, and counted last.
constexpr int kMaxOutputs = 8;
std::array<char*, kMaxOutputs> temporary_names{};
std::atomic<int> num_outputs{0};
static_assert(std::atomic<int>::is_always_lock_free);

void remove_temporaries() {
  for (int i = 0; i < num_outputs.load(); ++i) unlink(temporary_names[static_cast<size_t>(i)]);
}

extern "C" void remove_and_end(int signal) {
  remove_temporaries();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

/// The system's only way to say that a mapped page has no file behind it any more.
extern "C" void end_for_lost_file(int) {
  constexpr std::string_view kMessage =
      "tandem: a model file was cut short or could not be read while it was in use; expected it to "
      "stay as it was opened\n";
  remove_temporaries();
  if (write(STDERR_FILENO, kMessage.data(), kMessage.size()) < 0) _exit(3);
  _exit(2);
}

}  // namespace

void handle_interrupts() {
  std::signal(SIGBUS, end_for_lost_file);
  std::signal(SIGXFSZ, SIG_IGN);  // then write() fails, and is reported as any other failure
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE})
    if (std::signal(signal, remove_and_end) == SIG_IGN) std::signal(signal, SIG_IGN);
}

void remove_on_interrupt(const std::string& output_path) {
  const int index = num_outputs.load();
  if (index == kMaxOutputs) throw Error("more than 8 output files in one command");
  temporary_names[static_cast<size_t>(index)] = strdup(temporary_name(output_path).c_str());
  num_outputs.store(index + 1);
}

}  // namespace tandem
