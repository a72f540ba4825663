// Where the keys and values of kv heads lie in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/kv_format.h"
#include "kernels/range.h"

namespace tandem {

/// Keys and values of consecutive positions (a cache) or of the new tokens (the step buffer), head
/// after head, each in panels of 16 positions (see KvLayout), so that a key panel is multiplied
/// like a weight panel. Values are padded with zeros to round_up(head_dim, 16). `dtype` is one of
/// kKvFormats. Head 0 of the view is kv head `kv_heads.begin`. In a cache row 0 is position
/// `positions.begin`, a multiple of kAttentionChunk. In a step buffer token t of a step after
/// `past` positions lies in row past % 16 + t, so that chunk borders fall on panel borders in both.
struct KvView {
  DType dtype = DType::kF16;
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  Range kv_heads;
  Range positions;  ///< size is the capacity, a multiple of 16
  int64_t head_dim = 0;

  KvLayout keys() const { return key_layout(dtype, head_dim); }
  KvLayout values() const { return value_layout(dtype, head_dim); }
  int64_t k_head_bytes() const { return positions.size() * kv_row_bytes(keys()); }
  int64_t v_head_bytes() const { return positions.size() * kv_row_bytes(values()); }
  std::byte* keys_of(int64_t kv_head) const {
    return k + (kv_head - kv_heads.begin) * k_head_bytes();
  }
  std::byte* values_of(int64_t kv_head) const {
    return v + (kv_head - kv_heads.begin) * v_head_bytes();
  }
  /// The panel that holds a row.
  std::byte* key_panel(int64_t kv_head, int64_t row) const {
    return keys_of(kv_head) + row / kKvPanel * kv_panel_bytes(keys());
  }
  std::byte* value_panel(int64_t kv_head, int64_t row) const {
    return values_of(kv_head) + row / kKvPanel * kv_panel_bytes(values());
  }
  KvRow key(int64_t kv_head, int64_t row) const { return kv_row(keys(), keys_of(kv_head), row); }
  KvRow value(int64_t kv_head, int64_t row) const {
    return kv_row(values(), values_of(kv_head), row);
  }
};

}  // namespace tandem
