// Stands in for CUDA's header of this name when .cu files are compiled for the CPU: see README.md.
#pragma once

#include "emulation/words.h"
// After the words:
#include "emulation/device_math.h"
#include "emulation/device_memory.h"
#include "emulation/device_threads.h"
#include "emulation/launch.h"
#include "emulation/runtime_api.h"
#include "emulation/vector_types.h"
