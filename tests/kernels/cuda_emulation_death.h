// Runs what ends a process in a process of its own, for tests of what the emulated CUDA runtime and
// the sanitizers report.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <functional>
#include <string>

#include "cuda_emulation_bench.h"
#include "emulation/sanitizers.h"

namespace tandem {

/// Runs `body` in a process of its own; what that wrote to stderr, if it died.
inline std::string death_of(const std::function<void()>& body) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);  // doctest has handlers that print
    signal(SIGSEGV, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t got; (got = read(ends[0], buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "died: " + text;
}

/// What a kernel's run on one small block writes to stderr before it dies.
template <class... Parameters>
std::string death_of_kernel(int threads, void (*kernel)(Parameters...), Parameters... arguments) {
  return death_of([&] {
    Bench<float> bench(1);
    cuda::launch(
        {.grid = {}, .block = dim3(static_cast<unsigned>(threads)), .stream = bench.stream}, kernel,
        arguments...);
    cudaStreamSynchronize(bench.stream);
  });
}

/// tsan starts no threads in a process forked from one that has several.
inline bool can_fork() {
  if (cuda_emulation::kTsan) MESSAGE("under tsan nothing is tested that ends a process");
  return !cuda_emulation::kTsan;
}

}  // namespace tandem
