// doctest's main for builds with real CUDA units: on a machine without a device their tests are
// left out.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/device.h"

int main(int argc, char** argv) {
  // Two units on one device stand for two GPUs: a kernel that is loaded late would wait for the
  // other unit's stream, which waits for it.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  doctest::Context context(argc, argv);
  if (tandem::list_cuda_devices().empty()) {
    std::puts("no CUDA device here: the tests of CUDA units are left out");
    context.addFilter("source-file-exclude", "*/cuda_*");
  }
  return context.run();
}
