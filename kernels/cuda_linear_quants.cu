// Linears of at most 16 tokens over the formats that formats.h lists. Their columns lie in up to
// four planes, whose addresses take registers: two columns a warp, where the common formats have
// four. Fewer shapes than those have, since there are ten of them to compile.
#include <cuda_runtime.h>

#include "kernels/cuda_linear_columns.cuh"

namespace tandem::cuda {
namespace {

template <class Format>
void launch_tokens(LinearArguments& args, int parts, cudaStream_t stream) {
  constexpr int kVectors = kChunkVectors<Format>;
  if (args.input.tokens > 4)
    return launch_columns<Format, Shape<16, 2, kVectors>>(args, parts, stream);
  if (args.input.tokens > 1)
    return launch_columns<Format, Shape<4, 2, kVectors>>(args, parts, stream);
  launch_columns<Format, Shape<1, 2, kVectors>>(args, parts, stream);
}

}  // namespace

void launch_quants(DType dtype, LinearArguments& args, int parts, cudaStream_t stream) {
  with_plane_format(dtype,
                    [&](auto format) { launch_tokens<decltype(format)>(args, parts, stream); });
}

}  // namespace tandem::cuda
