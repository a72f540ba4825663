// Appends rows of step buffers to KV caches: of all layers in one launch, where they are not many.
#include <algorithm>
#include <span>

#include "kernels/cuda_attention_parts.cuh"
#include "kernels/cuda_launch.cuh"
#include "kernels/kv_format.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPanel = 16;  ///< positions of a key panel

struct CommitHeads {
  Range positions;  ///< of the cache
  int heads;
  KvHeads step;
  KvHeads cache;  ///< written
};

/// A kernel's arguments are 4 KiB at most.
constexpr size_t kMostCaches = 24;

struct CommitPart {
  const int32_t* rows;
  int count;
  DeviceValue first_position;
  KvLayout keys;
  KvLayout values;
  CommitHeads caches[kMostCaches];
};
static_assert(sizeof(CommitPart) <= 4096);

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

__device__ KvRow row_of(const KvLayout& layout, const std::byte* head, int64_t row) {
  return kv_row(layout, const_cast<std::byte*>(head), row);
}

/// Items [first, count) of a row, every `step`th of them.
template <class Item>
__device__ void copy_items(const std::byte* from, std::byte* to, int64_t stride, int first,
                           int64_t count, int step) {
  for (int64_t i = first; i < count; i += step)
    reinterpret_cast<Item*>(to)[i * stride] = reinterpret_cast<const Item*>(from)[i * stride];
}

/// A block takes one panel of the cache: neighbouring threads have neighbouring positions, so that
/// what they write lies together. Grid: (panels touched, kv heads, caches).
template <class Element>
__global__ void __launch_bounds__(kThreads) commit_panel(const __grid_constant__ CommitPart part) {
  const CommitHeads& layer = part.caches[blockIdx.z];
  const int head = static_cast<int>(blockIdx.y);
  if (head >= layer.heads) return;
  const int thread = static_cast<int>(threadIdx.x);
  const int kept = kept_rows(part, thread);
  const int64_t first = part.first_position.get();
  const int lead = static_cast<int>(first % kPanel);
  const int64_t position = (first / kPanel + blockIdx.x) * kPanel + thread % kPanel;
  const int64_t i = position - first;
  if (i < 0 || i >= kept) return;
  if (position < layer.positions.begin || position >= layer.positions.end) return;
  const int64_t from = lead + part.rows[i];
  const int64_t to = position - layer.cache.first_position;

  constexpr int kStep = kThreads / kPanel;
  const int own = thread / kPanel;
  const KvRow key = row_of(part.keys, layer.step.keys(head), from);
  const KvRow cached_key = row_of(part.keys, layer.cache.keys(head), to);
  copy_items<Element>(key.elements, cached_key.elements, key.stride, own, part.keys.width, kStep);
  copy_items<uint16_t>(key.scales, cached_key.scales, key.stride, own, part.keys.scales, kStep);

  // A value's elements are a multiple of 16 bytes.
  const int64_t pieces = part.values.width * part.values.element_bytes / 16;
  const KvRow value = row_of(part.values, layer.step.values(head), from);
  const KvRow cached_value = row_of(part.values, layer.cache.values(head), to);
  copy_items<uint4>(value.elements, cached_value.elements, 1, own, pieces, kStep);
  copy_items<uint16_t>(value.scales, cached_value.scales, 1, own, part.values.scales, kStep);
}

/// Of at most kMostCaches.
void commit_some(const CommitLaunch& request, std::span<const CommitCache> caches,
                 cudaStream_t stream) {
  const KvView& step = caches.front().step;
  const auto count = static_cast<int64_t>(request.args.rows.size());
  CommitPart part{.rows = request.args.rows.data(),
                  .count = static_cast<int>(count),
                  .first_position = request.first_position,
                  .keys = step.keys(),
                  .values = step.values(),
                  .caches = {}};
  int most_heads = 0;
  for (size_t i = 0; i < caches.size(); ++i) {
    const Range heads = intersect(caches[i].step.kv_heads, caches[i].cache.kv_heads);
    part.caches[i] = {.positions = caches[i].cache.positions,
                      .heads = static_cast<int>(heads.size()),
                      .step = KvHeads(caches[i].step, heads.begin),
                      .cache = KvHeads(caches[i].cache, heads.begin)};
    most_heads = std::max(most_heads, part.caches[i].heads);
  }
  if (most_heads == 0) return;
  launch({.grid = dim3(static_cast<unsigned>(div_up(count + kPanel - 1, kPanel)),
                       static_cast<unsigned>(most_heads), static_cast<unsigned>(caches.size())),
          .block = dim3(kThreads),
          .stream = stream},
         part.keys.element_bytes == 1   ? commit_panel<uint8_t>
         : part.keys.element_bytes == 2 ? commit_panel<uint16_t>
                                        : commit_panel<uint32_t>,
         part);
}

}  // namespace

void commit(const CommitLaunch& request, cudaStream_t stream) {
  if (request.args.rows.empty()) return;
  for (std::span<const CommitCache> left = request.args.caches; !left.empty();) {
    const size_t count = std::min(left.size(), kMostCaches);
    commit_some(request, left.first(count), stream);
    left = left.subspan(count);
  }
}

}  // namespace tandem::cuda
