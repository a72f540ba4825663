#include "kernels/kv_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/kernel_set.h"

namespace tandem {
namespace {

KvLayout layout_of(DType dtype, bool keys, int64_t width) {
  const bool blocks = info(dtype).block_size > 1;
  return {.keys = keys,
          .width = width,
          .element_bytes = blocks ? 1 : info(dtype).block_bytes,
          .scales = blocks ? width / kKvBlock : 0};
}

/// Items of kBytes each, `*_stride` items apart.
template <int64_t kBytes>
void copy_items(const std::byte* from, int64_t from_stride, std::byte* to, int64_t to_stride,
                int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * to_stride * kBytes, from + i * from_stride * kBytes, kBytes);
}

void copy_items(int64_t bytes, const std::byte* from, int64_t from_stride, std::byte* to,
                int64_t to_stride, int64_t count) {
  if (from_stride == 1 && to_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count * bytes));
  } else if (bytes == 1) {
    copy_items<1>(from, from_stride, to, to_stride, count);
  } else if (bytes == 2) {
    copy_items<2>(from, from_stride, to, to_stride, count);
  } else {
    copy_items<4>(from, from_stride, to, to_stride, count);
  }
}

}  // namespace

bool is_kv_format(DType dtype) {
  return std::find(kKvFormats.begin(), kKvFormats.end(), dtype) != kKvFormats.end();
}

std::string kv_format_names(int64_t head_dim) {
  std::vector<std::string_view> names;
  for (const DType dtype : kKvFormats)
    if (head_dim % info(dtype).block_size == 0) names.push_back(name(dtype));
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} or {}", fmt::join(names, ", "), last);
}

std::string kv_format_problem(DType dtype, int64_t head_dim) {
  if (head_dim % info(dtype).block_size == 0) return {};
  return fmt::format("{} has blocks of {} elements, which do not fill a head_dim of {}: use {}",
                     name(dtype), info(dtype).block_size, head_dim, kv_format_names(head_dim));
}

KvLayout key_layout(DType dtype, int64_t head_dim) { return layout_of(dtype, true, head_dim); }

KvLayout value_layout(DType dtype, int64_t head_dim) {
  return layout_of(dtype, false, kv_value_stride(head_dim));
}

void copy_kv_row(const KvLayout& layout, const KvRow& from, const KvRow& to) {
  copy_items(layout.element_bytes, from.elements, from.stride, to.elements, to.stride,
             layout.width);
  copy_items(kKvScaleBytes, from.scales, from.stride, to.scales, to.stride, layout.scales);
}

void store_kv_row(const KernelSet& kernels, DType dtype, const float* x, int64_t head_dim,
                  const KvLayout& layout, const KvRow& to) {
  std::byte packed[kMaxHeadDim * sizeof(float)];
  kernels.convert(dtype, x, head_dim, packed);
  const int64_t pad = (layout.width - head_dim) * layout.element_bytes;  // none where scales follow
  std::memset(packed + head_dim * layout.element_bytes, 0, static_cast<size_t>(pad));
  copy_kv_row(layout, packed_kv_row(layout, packed), to);
}

}  // namespace tandem
