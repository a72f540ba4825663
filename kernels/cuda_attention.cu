// Attention of at most 16 tokens, bound by memory: one block attends one chunk of 256 positions for
// up to eight query rows of a kv head, and leaves their softmax states for merge_chunks().
//
// Roofline, llama-3-8b (8 kv heads of 128, group 4, F16, one token): a chunk is 64 KiB of keys and
// 64 KiB of values a head, so context 8192 is 256 blocks and 33.6 MB, 8 us at the 4.2 TB/s that an
// H200 copies at, and 32768 is 1024 blocks, 134 MB, 32 us. 256 blocks are two on each of 132
// multiprocessors, all at once, which the launch bounds allow for. A thread keeps 8 loads of 16
// bytes in flight, 64 KiB a multiprocessor; 4.2 TB/s x 0.8 us of latency / 132 is 25 KiB. Loads of
// values are issued before the barriers around the softmax, so that they do not drain the memory.
// Arithmetic at group 4: 256 x 128 x 2 elements x 2 blocks x 4 rows / 128 lanes = 4096 cycles of
// FMA, about 2.3 us, and a third of that to widen halves: under the loads. More rows than eight go
// to neighbouring blocks, which find keys and values in the L2 cache. From four tokens on (16 rows,
// 9 us of FMA) a step is bound by arithmetic: 37 us for 16 tokens.
#include "kernels/cuda_attention_chunk.cuh"
#include "kernels/cuda_launch.cuh"

namespace tandem::cuda {
namespace {

/// Grid: (tiles of rows, kv heads, chunks). Tiles of one head are neighbours, and chunks that
/// `past` does not reach come last, so that their blocks end while others work.
template <class Kv, int kHeadDim, int kRows>
__global__ void __launch_bounds__(kThreads, 2)
    attend_chunk(const DevicePart part, const ChunkStates states) {
  using Block = ChunkBlock<Kv, kHeadDim, kRows>;
  __shared__ typename Block::BlockTile tile;
  const int past = part.past();
  const PartPositions positions = part_positions(part.context, part.include_new, past, part.tokens);
  const int chunk = positions.chunks.begin + static_cast<int>(blockIdx.z);
  if (chunk >= positions.chunks.end) return;
  const unsigned thread = threadIdx.x;
  const unsigned eights = (kHeadDim > 0 ? kHeadDim : part.value_stride) / 8;
  const Block block{.part = part,
                    .tile = tile,
                    .thread = static_cast<int>(thread),
                    .lane = static_cast<int>(thread % 32),
                    // From one lane, so that the compiler knows it to be the same in all.
                    .warp = static_cast<int>(__shfl_sync(kAllLanes, thread / 32, 0)),
                    .head = static_cast<int>(blockIdx.y),
                    .first_row = static_cast<int>(blockIdx.x) * kRows,
                    .past = past,
                    .begin = chunk * kChunk,
                    .cached = within_chunk(positions.cached, chunk),
                    .fresh = within_chunk(positions.fresh, chunk),
                    .slots = static_cast<int>(kThreads / eights),
                    .slot = static_cast<int>(thread / eights)};

  typename Block::Eight loads[Block::kInFlight] = {};
  float q[Block::kQueries];
  block.load_queries(q);
  block.start_keys(loads);
  block.prepare(q);
  __syncthreads();
  block.score(loads);
  block.start_values(loads);
  __syncthreads();
  if (block.has_fresh()) {
    block.place_fresh();
    __syncthreads();
  }
  block.softmax();
  __syncthreads();
  float o[kRows][8] = {};
  block.add_cached_values(loads, o);
  block.add_fresh_values(o);
  block.write_states(o, states);
}

template <class Kv, int kHeadDim, int kRows>
void launch_chunks(const DevicePart& part, const ChunkStates& states, cudaStream_t stream) {
  launch(
      {.grid = dim3(static_cast<unsigned>(div_up(part.rows(), kRows)),
                    static_cast<unsigned>(part.num_kv_heads), static_cast<unsigned>(states.chunks)),
       .block = dim3(kThreads),
       .stream = stream},
      attend_chunk<Kv, kHeadDim, kRows>, part, states);
}

/// As many rows a block as there are, up to the most that shared memory has room for.
template <class Kv, int kHeadDim>
void attend_chunks(const DevicePart& part, const ChunkStates& states, cudaStream_t stream) {
  if (part.rows() == 1) return launch_chunks<Kv, kHeadDim, 1>(part, states, stream);
  if (part.rows() == 2) return launch_chunks<Kv, kHeadDim, 2>(part, states, stream);
  if (part.rows() <= 4 || kHeadDim == 0)
    return launch_chunks<Kv, kHeadDim, 4>(part, states, stream);
  if constexpr (kHeadDim > 0) launch_chunks<Kv, kHeadDim, 8>(part, states, stream);
}

template <class Kv>
void attend_chunks(const DevicePart& part, const ChunkStates& states, cudaStream_t stream) {
  if constexpr (Kv::kBytes < 4) {  // f32 is seldom asked for
    if (part.head_dim == 64) return attend_chunks<Kv, 64>(part, states, stream);
    if (part.head_dim == 128) return attend_chunks<Kv, 128>(part, states, stream);
  }
  attend_chunks<Kv, 0>(part, states, stream);
}

}  // namespace

void attention(const AttentionLaunch& request, cudaStream_t stream) {
  const AttentionArgs& args = request.args;
  if (args.tokens == 0 || args.kv_heads.empty()) return;
  const DType kv_dtype = args.include_new ? args.step.dtype : args.cache.dtype;
  const DevicePart part(request);
  if (part.tokens > kMaxDecodeTokens) return attend_prefill(part, kv_dtype, stream);
  const int chunks = most_chunks(part.context, part.include_new, part.tokens,
                                 static_cast<int>(request.max_context));
  const int64_t rows = part.num_kv_heads * part.rows();
  float* top_sum = request.chunk_states + rows * chunks * part.value_stride;
  const ChunkStates states{.o = request.chunk_states,
                           .top_sum = reinterpret_cast<float2*>(top_sum),
                           .chunks = chunks,
                           .stride = part.value_stride};
  if (chunks > 0)
    with_kv_format(kv_dtype,
                   [&](auto format) { attend_chunks<decltype(format)>(part, states, stream); });
  merge_chunks(part, states, stream);
}

}  // namespace tandem::cuda
