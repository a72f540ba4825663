#include "runtime/step_buffers.h"

#include <algorithm>

#include "kernels/kernel_set.h"
#include "kernels/rope.h"

namespace tandem {
namespace {

template <class T>
Block block_of(std::span<T> values, int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  return {.data = reinterpret_cast<std::byte*>(values.data()),
          .rows = 1,
          .bytes = bytes,
          .stride = bytes};
}

/// What a transfer's range, of `per` floats each, is in a buffer of `rows` rows.
Block rectangle(std::span<float> values, int64_t rows, int64_t columns, const Transfer& transfer,
                int64_t per) {
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  const int64_t first = (rows - transfer.rows) * columns + transfer.range.begin * per;
  return {.data = reinterpret_cast<std::byte*>(values.data() + first),
          .rows = transfer.rows,
          .bytes = transfer.range.size() * per * kFloat,
          .stride = columns * kFloat};
}

/// Rows of the step buffer that a step of so many tokens may use, whatever the context's remainder.
int64_t step_rows(int64_t tokens) { return round_up(tokens, kPanelColumns) + kPanelColumns; }

KvView take_step_view(KvView view, ExchangeMemory& memory) {
  view.k = memory.take<std::byte>(view.kv_heads.size() * view.k_head_bytes()).data();
  view.v = memory.take<std::byte>(view.kv_heads.size() * view.v_head_bytes()).data();
  return view;
}

}  // namespace

StepBuffers allocate_buffers(const ModelSpec& spec, const Plan& plan, ExchangeMemory& memory,
                             const BufferSizes& sizes) {
  const StepSizes s = step_sizes(spec, plan, sizes);
  StepBuffers b;
  b.bytes = s.bytes();
  b.x = memory.take<float>(s.x);
  b.q = memory.take<float>(s.q);
  b.attended = memory.take<float>(s.attended);
  b.h = memory.take<float>(s.h);
  b.logits = memory.take<float>(s.logits);
  for (int64_t part = 0; part < s.states; ++part)
    b.states.push_back(memory.take<float>(s.floats_each));
  for (int64_t layer = 0; layer < s.layers; ++layer)
    b.step.push_back(take_step_view(s.step, memory));
  b.past = memory.take<int64_t>(1);
  b.cos_sin = memory.take<float>(s.cos_sin);
  b.parents = memory.take<int32_t>(sizes.tokens);
  b.accepted = memory.take<int32_t>(sizes.tokens);
  b.largest = memory.take<int32_t>(1);
  b.frequencies = inverse_frequencies(spec.rope_theta, spec.rope_dim, spec.rope_factors);
  b.token_ids.reserve(static_cast<size_t>(sizes.tokens));
  b.positions.reserve(static_cast<size_t>(sizes.tokens));
  return b;
}

void prepare_step(const Step& step, std::span<const int32_t> token_ids, StepBuffers& buffers) {
  buffers.token_ids.assign(token_ids.begin(), token_ids.end());
  buffers.positions.clear();
  for (int64_t t = 0; t < step.tokens; ++t) {
    const int64_t parent = step.parents.empty() ? t - 1 : step.parents[static_cast<size_t>(t)];
    buffers.positions.push_back(parent < 0 ? step.context
                                           : buffers.positions[static_cast<size_t>(parent)] + 1);
  }
  fill_rope_table(buffers.positions, buffers.frequencies, buffers.cos_sin.data());
  buffers.past.front() = step.context;
  std::copy(step.parents.begin(), step.parents.end(), buffers.parents.begin());
}

std::vector<Block> blocks_of(const Transfer& transfer, const ModelSpec& spec, const Step& step,
                             const StepBuffers& buffers) {
  const int64_t per_head = spec.group() * spec.head_dim;
  const auto floats = [&](std::span<float> values, int64_t columns, int64_t per) {
    return std::vector<Block>{rectangle(values, step.tokens, columns, transfer, per)};
  };
  switch (transfer.buffer) {
    case Buffer::kX:
      return floats(buffers.x, spec.hidden_size, 1);
    case Buffer::kH:
      return floats(buffers.h, spec.intermediate_size, 1);
    case Buffer::kQ:
      return floats(buffers.q, spec.q_size(), per_head);
    case Buffer::kAttended:
      return floats(buffers.attended, spec.q_size(), per_head);
    case Buffer::kStates:
      return floats(buffers.states[static_cast<size_t>(transfer.index)],
                    spec.num_heads * (spec.head_dim + 2), spec.group() * (spec.head_dim + 2));
    case Buffer::kLogits:
      return {rectangle(buffers.logits, step.logits_rows, spec.vocab_size, transfer, 1)};
    case Buffer::kStep:
      break;
  }
  const KvView& view = buffers.step[static_cast<size_t>(transfer.index)];
  KvView used = view;
  used.positions = {0, step_rows(step.tokens)};
  return {{.data = view.keys_of(transfer.range.begin),
           .rows = transfer.range.size(),
           .bytes = used.k_head_bytes(),
           .stride = view.k_head_bytes()},
          {.data = view.values_of(transfer.range.begin),
           .rows = transfer.range.size(),
           .bytes = used.v_head_bytes(),
           .stride = view.v_head_bytes()}};
}

std::vector<Block> input_blocks(const ModelSpec& spec, const Step& step,
                                const StepBuffers& buffers) {
  std::vector<Block> blocks{block_of(buffers.past, 1),
                            block_of(buffers.cos_sin, step.tokens * spec.rope_dim)};
  if (!step.parents.empty()) blocks.push_back(block_of(buffers.parents, step.tokens));
  return blocks;
}

Block accepted_block(const Step& step, const StepBuffers& buffers) {
  return block_of(buffers.accepted, step.tokens);
}

}  // namespace tandem
