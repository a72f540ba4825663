// CUDA's words of the language, for a host compiler.
#pragma once

#ifndef __host__
#define __host__
#endif
#ifndef __device__
#define __device__
#endif
#define __global__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// A block's threads are fibers of one OS thread, and no other block runs on that thread meanwhile.
#define __shared__ static thread_local
