// How columns of a matrix fall into panels: the one place that says what a range of them takes when
// it is packed.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/kernel_set.h"
#include "kernels/range.h"

namespace tandem {

/// Panel of a column, counted over the whole matrix. Every segment (see MatrixSource) begins a
/// panel.
constexpr int64_t panel_of(int64_t column, int64_t segment) {
  return column / segment * div_up(segment, kPanelColumns) + column % segment / kPanelColumns;
}

/// Panels of `columns`; whole panels, so a ragged end counts.
constexpr Range panels_of(Range columns, int64_t segment) {
  if (columns.empty()) return {};
  return {panel_of(columns.begin, segment), panel_of(columns.end - 1, segment) + 1};
}

/// Bytes of `columns` as Device::place() packs them.
inline int64_t packed_bytes(DType dtype, int64_t k, int64_t segment, Range columns) {
  return panels_of(columns, segment).size() * panel_bytes(dtype, k);
}

}  // namespace tandem
