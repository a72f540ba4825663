// doctest's main for builds with real CUDA units: on a machine without a device their tests are
// left out.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "kernels/device.h"

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  if (tandem::list_cuda_devices().empty()) {
    std::puts("no CUDA device here: the tests of CUDA units are left out");
    context.addFilter("source-file-exclude", "*/cuda_*");
  }
  return context.run();
}
