// Linears of at most 16 tokens over the formats that formats.h lists. Their columns lie in up to
// four planes, whose addresses take registers: two columns a warp, where the common formats have
// four. Fewer shapes than those have, since there are ten of them to compile. None of them spills.
//
// Counted as in cuda_linear.cu, a warp's chunks take this many instructions, of those that there is
// time for while they arrive with their high bits, scales and factors:
//            Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS
//   1 token    49   79   65  138  175   56   72   87    100    104
//   4 tokens  142  142  159  363  328  149  166  160    163    168
//   time for  140  154  168  147  200  130  158  184    126    121
// So one token is bound by memory in every format; two to four take up to 1.4 times that, in Q3_K
// 1.6 and in Q2_K 2.5 times.
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
