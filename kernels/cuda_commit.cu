// Appends rows of the step buffer to a KV cache.
#include "kernels/cuda_attention_parts.cuh"
#include "kernels/cuda_launch.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPanel = 16;  ///< positions of a key panel

struct CommitPart {
  const int32_t* rows;
  int count;
  DeviceValue first_position;
  Range positions;  ///< of the cache
  int head_dim;
  int value_bytes;  ///< of a row
  KvHeads step;
  KvHeads cache;  ///< written
};

/// Index of the first row that is negative, or count.
__device__ int kept_rows(const CommitPart& part, int thread) {
  __shared__ int kept;
  if (thread == 0) kept = part.count;
  __syncthreads();
  for (int i = thread; i < part.count; i += kThreads)
    if (part.rows[i] < 0) atomicMin(&kept, i);
  __syncthreads();
  return kept;
}

/// A block takes one panel of the cache: neighbouring threads have neighbouring positions, so that
/// what they write lies together. Grid: (panels touched, kv heads).
template <class Element>
__global__ void __launch_bounds__(kThreads) commit_panel(const CommitPart part) {
  const int thread = static_cast<int>(threadIdx.x);
  const int kept = kept_rows(part, thread);
  const int head = static_cast<int>(blockIdx.y);
  const int64_t first = part.first_position.get();
  const int lead = static_cast<int>(first % kPanel);
  const int64_t position = (first / kPanel + blockIdx.x) * kPanel + thread % kPanel;
  const int64_t i = position - first;
  if (i < 0 || i >= kept) return;
  if (position < part.positions.begin || position >= part.positions.end) return;
  const int64_t from = lead + part.rows[i];
  const int64_t to = position - part.cache.first_position;

  const auto* keys = reinterpret_cast<const Element*>(part.step.keys(head));
  auto* cached_keys = reinterpret_cast<Element*>(const_cast<std::byte*>(part.cache.keys(head)));
  for (int d = thread / kPanel; d < part.head_dim; d += kThreads / kPanel)
    cached_keys[key_element(to, d, part.head_dim)] = keys[key_element(from, d, part.head_dim)];

  const std::byte* value = part.step.values(head) + from * part.value_bytes;
  std::byte* cached_value = const_cast<std::byte*>(part.cache.values(head)) + to * part.value_bytes;
  for (int at = thread / kPanel * 16; at < part.value_bytes; at += kThreads / kPanel * 16)
    *reinterpret_cast<uint4*>(cached_value + at) = *reinterpret_cast<const uint4*>(value + at);
}

}  // namespace

void commit(const CommitLaunch& request, cudaStream_t stream) {
  const CommitArgs& args = request.args;
  const Range heads = intersect(args.step.kv_heads, args.cache.kv_heads);
  if (heads.empty() || args.rows.empty()) return;
  const int64_t element = info(args.step.dtype).block_bytes;
  const auto count = static_cast<int64_t>(args.rows.size());
  const CommitPart part{.rows = args.rows.data(),
                        .count = static_cast<int>(count),
                        .first_position = request.first_position,
                        .positions = args.cache.positions,
                        .head_dim = static_cast<int>(args.step.head_dim),
                        .value_bytes = static_cast<int>(args.step.value_stride() * element),
                        .step = KvHeads(args.step, heads.begin),
                        .cache = KvHeads(args.cache, heads.begin)};
  launch({.grid = dim3(static_cast<unsigned>(div_up(count + kPanel - 1, kPanel)),
                       static_cast<unsigned>(heads.size())),
          .block = dim3(kThreads),
          .stream = stream},
         element == 2 ? commit_panel<uint16_t> : commit_panel<uint32_t>, part);
}

}  // namespace tandem::cuda
