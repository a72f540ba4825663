// Attention and what else a CUDA unit does with keys, values and exchanged memory.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "kernels/cuda_device.cuh"
#include "kernels/kernel_set.h"

namespace tandem::cuda {

/// A recording serves every depth that was reserved for.
int64_t CudaDevice::max_context(const AttentionArgs& args) const {
  if (args.past.at == nullptr) return args.past.fixed;
  return limits_.context > 0 ? limits_.context : args.cache.positions.end;
}

void CudaDevice::attention(const AttentionArgs& args) {
  on_device([&] {
    AttentionLaunch launch{.args = args, .past = value(args.past)};
    launch.max_context = max_context(args);
    launch.args.parents = own(args.parents);
    launch.args.q = own(args.q);
    if (args.include_new) launch.args.step = own(args.step);
    launch.args.out = own(args.out);
    launch.args.state = own(args.state);
    launch.shared = published(args.out != nullptr ? args.out : args.state, args.publish);
    launch.chunk_states = reinterpret_cast<float*>(
        grow(chunk_states_, attention_scratch_bytes(args.tokens, args.kv_heads.size() * args.group,
                                                    args.head_dim, launch.max_context)));
    cuda::attention(launch, stream());
  });
}

void CudaDevice::merge(const MergeArgs& args) {
  on_device([&] {
    if (args.states.size() > kMaxMergedStates)
      throw Error(fmt::format("a head is cut into {} parts; a CUDA unit merges at most {}",
                              args.states.size(), kMaxMergedStates));
    std::array<const float*, kMaxMergedStates> states{};
    std::transform(args.states.begin(), args.states.end(), states.begin(),
                   [this](const float* state) { return own(state); });
    MergeLaunch launch{.args = args, .shared = published(args.out, args.publish)};
    launch.args.states = {states.data(), args.states.size()};
    launch.args.out = own(args.out);
    cuda::merge(launch, stream());
  });
}

void CudaDevice::argmax(const ArgmaxArgs& args) {
  on_device([&] {
    cuda::argmax({.values = own(args.values), .n = args.n, .shared = exchanged_.shared(args.index)},
                 stream());
  });
}

void CudaDevice::commit(const CommitArgs& args) {
  if (args.rows.empty() || args.caches.empty()) return;
  on_device([&] {
    std::vector<CommitCache> caches(args.caches.begin(), args.caches.end());
    for (CommitCache& to : caches) to.step = own(to.step);
    CommitLaunch launch{.args = args, .first_position = value(args.first_position)};
    launch.args.caches = caches;
    launch.args.rows = {own(args.rows.data()), args.rows.size()};
    cuda::commit(launch, stream());
  });
}

void CudaDevice::require_shared(const Block& block) const {
  if (!exchanged_.contains(block.data, (block.rows - 1) * block.stride + block.bytes))
    throw std::logic_error("a block is larger than the memory that was shared");
}

void CudaDevice::receive(const Block& block) {
  if (exchanged_.unified() || block.rows <= 0 || block.bytes <= 0) return;
  on_device([&] {
    require_shared(block);
    cuda::receive(exchanged_.shared(block.data), own(block.data), block, stream());
  });
}

/// Done by the driver, on its core: a few rows of a table that need not lie in device memory.
void CudaDevice::embed(const EmbedArgs& args) {
  if (args.placed != nullptr)
    throw std::logic_error("a CUDA unit reads the embedding as the file stores it");
  const int64_t k = args.table.k;
  float* x = args.x;
  for (const int32_t id : args.token_ids) {
    dequantize_row(args.table.dtype, args.table.rows + id * row_bytes(args.table.dtype, k), k, x);
    x += k;
  }
}

}  // namespace tandem::cuda
