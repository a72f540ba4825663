#include "tuner/interrupt.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>

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

extern "C" void remove_and_end(int signal) {
  for (int i = 0; i < num_outputs.load(); ++i) unlink(temporary_names[static_cast<size_t>(i)]);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

void handle_interrupts() {
  std::signal(SIGINT, remove_and_end);
  std::signal(SIGTERM, remove_and_end);
}

void remove_on_interrupt(const std::string& output_path) {
  const int index = num_outputs.load();
  if (index == kMaxOutputs) throw Error("more than 8 output files in one command");
  temporary_names[static_cast<size_t>(index)] = strdup(temporary_name(output_path).c_str());
  num_outputs.store(index + 1);
}

}  // namespace tandem
