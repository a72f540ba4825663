// Linears of at most 16 tokens. Each weight is read once, whatever the number of tokens, and that
// is the time they take: bytes / bandwidth. H200: 4.8e12 B/s are 18 bytes a clock and
// multiprocessor, so that there is time for 112 instructions while a warp's 512 bytes arrive. They
// take (the SASS of the loop over whole rows, nvcc 13.0, sm_90; dot products of bytes counted
// twice) for one token 19 (BF16, F16), 18 (Q8_0), 47 (Q4_0); for 4 tokens 46, 54, 109; for 16
// tokens 153, 195, 357, bound by arithmetic. No shape spills but Q4_0's for 8 and 16 tokens, of
// which the latter keeps 100 bytes a thread in the L1.
#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>

#include "kernels/cuda_kernels.cuh"
#include "kernels/cuda_linear_columns.cuh"

namespace tandem::cuda {
namespace {

constexpr int64_t kFewColumns = 2112;  // less than four warps of four columns a multiprocessor

Part part(const LinearLaunch& launch) {
  const WeightMatrix& weights = launch.weights;
  assert(weights.columns.contains(launch.columns));
  Part made{.planes = {},
            .columns = static_cast<int>(launch.columns.size()),
            .y = launch.y + launch.columns.begin,
            .shared = launch.shared == nullptr ? nullptr : launch.shared + launch.columns.begin,
            .y_stride = launch.y_stride};
  for (int p = 0; p < kPlanes; ++p)
    made.planes[p] = skip_columns(weights.planes[p], launch.columns.begin - weights.columns.begin);
  return made;
}

InputRows input_rows(const LinearLaunch& launch) {
  const Prepared& input = launch.input;
  const int64_t k = launch.weights.k;
  const bool quants = wants_quants(launch.weights.dtype);
  return {.values = quants ? reinterpret_cast<const std::byte*>(input.quants)
                           : reinterpret_cast<const std::byte*>(input.x),
          .value_bytes = quants ? k : k * static_cast<int64_t>(sizeof(float)),
          .scales = input.scales,
          .scales_of_row = static_cast<int>(k / 32),
          .tokens = static_cast<int>(launch.tokens),
          .k = static_cast<int>(k),
          .ragged = false};
}

template <class Format>
void launch_common(LinearArguments& args, int parts, cudaStream_t stream) {
  constexpr int kVectors = kChunkVectors<Format>;
  // Only staging can read such rows. Blocks of 32 are never ragged.
  args.input.ragged = args.input.k % Format::kElements != 0 ||
                      reinterpret_cast<uintptr_t>(args.input.values) % sizeof(Bytes16) != 0;
  const int tokens = args.input.ragged ? std::max(args.input.tokens, 4) : args.input.tokens;
  if (tokens > 8) return launch_columns<Format, Shape<16, 4, kVectors>>(args, parts, stream);
  if (tokens > 4) return launch_columns<Format, Shape<8, 4, kVectors>>(args, parts, stream);
  if (tokens > 2) return launch_columns<Format, Shape<4, 4, kVectors>>(args, parts, stream);
  if (tokens > 1) return launch_columns<Format, Shape<2, 4, kVectors>>(args, parts, stream);
  // Half as many columns a warp where there would be too few warps.
  int64_t columns = 0;
  for (const Part& p : args.parts) columns += p.columns;
  if (columns < kFewColumns)
    return launch_columns<Format, Shape<1, 2, kVectors>>(args, parts, stream);
  launch_columns<Format, Shape<1, 4, kVectors>>(args, parts, stream);
}

/// Launches of one shape but for the columns, with the same input; those without columns are left
/// out.
void launch_parts(std::span<const LinearLaunch> launches, LinearFinish finish, bool pair,
                  cudaStream_t stream) {
  const LinearLaunch& first = launches[0];
  assert(first.tokens >= 1 && first.tokens <= 16);
  LinearArguments args{};
  int parts = 0;
  for (const LinearLaunch& launch : launches)
    if (!launch.columns.empty()) args.parts[parts++] = part(launch);
  if (parts == 0) return;
  args.input = input_rows(first);
  args.finish = finish;
  args.pair = pair;
  args.chunks =
      static_cast<int>(first.weights.planes[kLowPlane].column_bytes / int64_t{sizeof(Bytes16)});
  args.spans = static_cast<int>(div_up(args.chunks, kSpanChunks));
  with_common_format(first.weights.dtype,
                     [&](auto format) { launch_common<decltype(format)>(args, parts, stream); });
  launch_quants(first.weights.dtype, args, parts, stream);
}

/// Whether one launch can do both.
bool go_together(const LinearLaunch& a, const LinearLaunch& b) {
  const bool same_input =
      wants_quants(a.weights.dtype) ? a.input.quants == b.input.quants : a.input.x == b.input.x;
  return a.weights.dtype == b.weights.dtype && a.weights.k == b.weights.k && same_input &&
         a.tokens == b.tokens && a.add == b.add;
}

}  // namespace

void linear(const LinearLaunch& launch, cudaStream_t stream) {
  linear_together({&launch, 1}, stream);
}

void linear_together(std::span<const LinearLaunch> launches, cudaStream_t stream) {
  assert(!launches.empty() && std::ssize(launches) <= kMaxParts);
  while (!launches.empty()) {
    size_t together = 1;
    while (together < launches.size() && go_together(launches[0], launches[together])) ++together;
    launch_parts(launches.first(together),
                 launches[0].add ? LinearFinish::kAdd : LinearFinish::kStore, false, stream);
    launches = launches.subspan(together);
  }
}

void gate_up(const GateUpLaunch& launch, cudaStream_t stream) {
  const LinearLaunch gate{.weights = launch.gate,
                          .input = launch.gate_input,
                          .tokens = launch.tokens,
                          .columns = launch.columns,
                          .y = launch.h,
                          .y_stride = launch.h_stride};
  LinearLaunch up = gate;
  up.weights = launch.up;
  up.input = launch.up_input;
  LinearLaunch both[] = {gate, up};
  both[0].shared = both[1].shared = launch.shared;
  if (go_together(gate, up)) return launch_parts(both, LinearFinish::kSwiglu, true, stream);
  launch_parts({&gate, 1}, LinearFinish::kStore, false, stream);  // h holds the gates in between
  launch_parts({&both[1], 1}, LinearFinish::kSwigluOfY, false, stream);
}

}  // namespace tandem::cuda
