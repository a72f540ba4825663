// An emulated machine as a test wants it, and as it was afterwards.
#pragma once

#include "emulation/control.h"

namespace tandem {

class EmulatedMachine {
 public:
  explicit EmulatedMachine(int devices = 1) { cuda_emulation::set_devices(devices); }
  ~EmulatedMachine() { cuda_emulation::reset(); }
  EmulatedMachine(const EmulatedMachine&) = delete;
  EmulatedMachine& operator=(const EmulatedMachine&) = delete;
};

}  // namespace tandem
